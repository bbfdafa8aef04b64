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

/* Three words of the counter are 0, so the first round has one product and the second two of which one is of the key. */
ALWAYS_INLINE void fill_block(uint64_t seed, uint64_t stream, uint64_t block, uint64_t *out) {
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

/* One block a turn: more of them in flight spill registers and take longer. */
ALWAYS_INLINE void fill_words(uint64_t seed, uint64_t stream, uint64_t first, size_t blocks, uint64_t *out) {
    for (size_t i = 0; i < blocks; i++) fill_block(seed, stream, first + i, out + i * BLOCK_WORDS);
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

/* Turns the words of a block into latents. The lower half of a word comes first. A half becomes an odd number: never 0,
 * and as often positive as negative. The product and the sum are rounded one after the other: compile without
 * contraction to a fused operation. */
typedef void Transform(const uint64_t *words, const float *lines, float *out);

static void transform_plain(const uint64_t *words, const float *lines, float *out) {
    for (int i = 0; i < BLOCK_LATENTS; i++) {
        float x = (float)(int32_t)(uint32_t)(words[i / 2] >> 32 * (i % 2) | 1);
        uint32_t bits;
        memcpy(&bits, &x, sizeof bits);
        const float *line = lines + 2 * (size_t)(bits >> SEGMENT_SHIFT);
        float scaled = line[1] * x;
        out[i] = scaled + line[0];
    }
}

#if defined(__x86_64__)

/* Two lines by one load each and shuffles: twice as fast as gathering intercepts and slopes. */
TARGET_AVX2 static inline __m128 two_lines(const float *lines, uint64_t segments) {
    __m128 low = _mm_castsi128_ps(_mm_loadl_epi64((const __m128i *)(lines + 2 * (size_t)(uint32_t)segments)));
    return _mm_loadh_pi(low, (const __m64 *)(lines + 2 * (size_t)(segments >> 32)));
}

TARGET_AVX2 static inline void transform_avx2(const uint64_t *words, const float *lines, float *out) {
    __m256i odd = _mm256_or_si256(_mm256_loadu_si256((const __m256i *)words), _mm256_set1_epi32(1));
    __m256 x = _mm256_cvtepi32_ps(odd);
    __m256i segments = _mm256_srli_epi32(_mm256_castps_si256(x), SEGMENT_SHIFT);
    __m128i lower = _mm256_castsi256_si128(segments), upper = _mm256_extracti128_si256(segments, 1);
    __m128 pair_0 = two_lines(lines, (uint64_t)_mm_cvtsi128_si64(lower));
    __m128 pair_1 = two_lines(lines, (uint64_t)_mm_extract_epi64(lower, 1));
    __m128 pair_2 = two_lines(lines, (uint64_t)_mm_cvtsi128_si64(upper));
    __m128 pair_3 = two_lines(lines, (uint64_t)_mm_extract_epi64(upper, 1));
    __m256 even = _mm256_set_m128(pair_2, pair_0), odds = _mm256_set_m128(pair_3, pair_1);
    __m256 intercept = _mm256_shuffle_ps(even, odds, _MM_SHUFFLE(2, 0, 2, 0));
    __m256 slope = _mm256_shuffle_ps(even, odds, _MM_SHUFFLE(3, 1, 3, 1));
    _mm256_storeu_ps(out, _mm256_add_ps(_mm256_mul_ps(slope, x), intercept));
}

#endif

/* ---- samples ------------------------------------------------------------------------------------------------- */

/* Blocks that are drawn before one is transformed. The multiplications of the one and the loads of the other then go on
 * together, and the words have left the store buffer, which forwards none to a wider load. */
#define AHEAD 4
#define RING (2 * AHEAD)

ALWAYS_INLINE void draw_with(Transform *transform, uint64_t seed, uint64_t stream, uint64_t first, size_t samples,
                             size_t dim, const float *lines, float *out) {
    uint64_t words[RING][BLOCK_WORDS];
    size_t blocks = (dim + BLOCK_LATENTS - 1) / BLOCK_LATENTS; /* of a sample */
    size_t last = dim - (blocks - 1) * BLOCK_LATENTS;          /* latents of a sample's last block */
    uint64_t block = first * blocks;
    for (size_t i = 0; i < AHEAD; i++) fill_block(seed, stream, block + i, words[i]);
    const float *end = out + samples * dim;
    size_t total = samples * blocks, place = 0;
    for (size_t at = 0; at < total; at++) {
        fill_block(seed, stream, block + at + AHEAD, words[(at + AHEAD) % RING]);
        size_t left = (size_t)(end - out);
        if (left >= BLOCK_LATENTS) { /* those of its values that are spare are overwritten by the next sample */
            transform(words[at % RING], lines, out);
        } else {
            float rest[BLOCK_LATENTS];
            transform(words[at % RING], lines, rest);
            memcpy(out, rest, left * sizeof *out);
        }
        place++;
        out += place == blocks ? last : BLOCK_LATENTS;
        if (place == blocks) place = 0;
    }
}

#if defined(__x86_64__)
TARGET_AVX2 static void draw_avx2(uint64_t seed, uint64_t stream, uint64_t first, size_t samples, size_t dim,
                                  const float *lines, float *out) {
    draw_with(transform_avx2, seed, stream, first, samples, dim, lines, out);
}
#endif

void draw_latents(uint64_t seed, uint64_t stream, uint64_t first, size_t samples, size_t dim, const float *lines,
                  float *out) {
#if defined(__x86_64__)
    if (cpu.avx2) {
        draw_avx2(seed, stream, first, samples, dim, lines, out);
        return;
    }
#endif
    draw_with(transform_plain, seed, stream, first, samples, dim, lines, out);
}
