#include "latents.h"

#include <string.h>

#include "core.h"
#include "cpu.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* ---- Philox4x64-10: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011 ------ */

#define MULTIPLIER_0 UINT64_C(0xD2E7470EE14C6C93)
#define MULTIPLIER_1 UINT64_C(0xCA5A826395121157)
#define WEYL_0 UINT64_C(0x9E3779B97F4A7C15)
#define WEYL_1 UINT64_C(0xBB67AE8584CAA73B)

typedef struct {
    uint64_t high, low;
} Product;

ALWAYS_INLINE Product product(uint64_t a, uint64_t b) {
    __extension__ typedef unsigned __int128 Wide;
    Wide wide = (Wide)a * b;
    return (Product){(uint64_t)(wide >> 64), (uint64_t)wide};
}

/* One block a turn: more of them in flight spill registers and take longer. Three words of the counter are 0, so the
 * first round has one product and the second two of which one is of a single word. */
ALWAYS_INLINE void fill_words(uint64_t seed, uint64_t stream, uint64_t first, size_t blocks, uint64_t *out) {
    for (uint64_t block = first; blocks > 0; block++, blocks--, out += BLOCK_WORDS) {
        Product zero = product(MULTIPLIER_0, block);
        uint64_t key_0 = seed, key_1 = stream;
        uint64_t c0 = key_0, c1 = 0, c2 = zero.high ^ key_1, c3 = zero.low;
        for (int round = 1; round < 10; round++) {
            key_0 += WEYL_0;
            key_1 += WEYL_1;
            Product p0 = product(MULTIPLIER_0, c0), p1 = product(MULTIPLIER_1, c2);
            c0 = p1.high ^ c1 ^ key_0;
            c1 = p1.low;
            c2 = p0.high ^ c3 ^ key_1;
            c3 = p0.low;
        }
        out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
    }
}

#if defined(__x86_64__)
TARGET_AVX2 static void fill_words_bmi2(uint64_t seed, uint64_t stream, uint64_t first, size_t blocks, uint64_t *out) {
    fill_words(seed, stream, first, blocks, out);
}
#endif

void philox_words(uint64_t seed, uint64_t stream, uint64_t first, size_t blocks, uint64_t *out) {
#if defined(__x86_64__)
    if (cpu.avx2) {
        fill_words_bmi2(seed, stream, first, blocks, out);
        return;
    }
#endif
    fill_words(seed, stream, first, blocks, out);
}

/* ---- the quantile function ----------------------------------------------------------------------------------- */

/* Half `at` of the words, lower half first, as an odd number: never 0, and as often positive as negative. */
ALWAYS_INLINE int32_t half_of(const uint64_t *words, size_t at) {
    return (int32_t)(uint32_t)(words[at / 2] >> 32 * (at % 2) | 1);
}

/* The product and the sum are rounded one after the other: compile without contraction to a fused operation. */
static void transform_plain(const uint64_t *words, size_t from, size_t to, const float *lines, float *out) {
    for (size_t at = from; at < to; at++) {
        float x = (float)half_of(words, at);
        uint32_t bits;
        memcpy(&bits, &x, sizeof bits);
        const float *line = lines + 2 * (size_t)(bits >> SEGMENT_SHIFT);
        float scaled = line[1] * x;
        out[at] = scaled + line[0];
    }
}

#if defined(__x86_64__)

/* Loads of whole lines and shuffles: twice as fast as gathering intercepts and slopes. */
TARGET_AVX2 static size_t transform_avx2(const uint64_t *words, size_t count, const float *lines, float *out) {
    const __m256i one = _mm256_set1_epi32(1);
    size_t at = 0;
    for (; at + 8 <= count; at += 8) {
        __m256i odd = _mm256_or_si256(_mm256_loadu_si256((const __m256i *)(words + at / 2)), one);
        __m256 x = _mm256_cvtepi32_ps(odd);
        uint32_t segment[8];
        _mm256_storeu_si256((__m256i *)segment, _mm256_srli_epi32(_mm256_castps_si256(x), SEGMENT_SHIFT));
        __m128 pair[4];
        for (int i = 0; i < 4; i++) {
            __m128 low = _mm_castsi128_ps(_mm_loadl_epi64((const __m128i *)(lines + 2 * (size_t)segment[2 * i])));
            pair[i] = _mm_loadh_pi(low, (const __m64 *)(lines + 2 * (size_t)segment[2 * i + 1]));
        }
        __m256 even = _mm256_set_m128(pair[2], pair[0]), odds = _mm256_set_m128(pair[3], pair[1]);
        __m256 intercept = _mm256_shuffle_ps(even, odds, _MM_SHUFFLE(2, 0, 2, 0));
        __m256 slope = _mm256_shuffle_ps(even, odds, _MM_SHUFFLE(3, 1, 3, 1));
        _mm256_storeu_ps(out + at, _mm256_add_ps(_mm256_mul_ps(slope, x), intercept));
    }
    return at;
}

#endif

static void transform(const uint64_t *words, size_t count, const float *lines, float *out) {
    size_t at = 0;
#if defined(__x86_64__)
    if (cpu.avx2) at = transform_avx2(words, count, lines, out);
#endif
    transform_plain(words, at, count, lines, out);
}

/* ---- samples ------------------------------------------------------------------------------------------------- */

#define STRIP_BLOCKS 256 /* words that are drawn before they are transformed: they stay in the L1 cache */

void draw_latents(uint64_t seed, uint64_t stream, uint64_t first, size_t samples, size_t dim, const float *lines,
                  float *out) {
    uint64_t words[STRIP_BLOCKS * BLOCK_WORDS];
    size_t blocks = (dim + BLOCK_LATENTS - 1) / BLOCK_LATENTS; /* of a sample */
    size_t together = blocks < STRIP_BLOCKS ? STRIP_BLOCKS / blocks : 1;
    while (samples > 0) {
        size_t some = samples < together ? samples : together;
        for (size_t done = 0; done < blocks * some;) {
            size_t left = blocks * some - done, strip = left < STRIP_BLOCKS ? left : STRIP_BLOCKS;
            philox_words(seed, stream, first * blocks + done, strip, words);
            if (blocks <= STRIP_BLOCKS) { /* whole samples */
                for (size_t i = 0; i < some; i++)
                    transform(words + i * blocks * BLOCK_WORDS, dim, lines, out + i * dim);
            } else { /* a part of one, whose last values may be spare */
                size_t from = done * BLOCK_LATENTS, most = strip * BLOCK_LATENTS;
                transform(words, dim - from < most ? dim - from : most, lines, out + from);
            }
            done += strip;
        }
        first += some;
        samples -= some;
        out += some * dim;
    }
}
