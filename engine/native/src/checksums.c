#include "checksums.h"

#include <string.h>

#include "core.h"
#include "cpu.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define CRC32_POLYNOMIAL 0xEDB88320u  /* both bit-reversed */
#define CRC32C_POLYNOMIAL 0x82F63B78u
#define ADLER_MODULUS 65521u
#define ADLER_BLOCK 5536 /* a multiple of STRIDE: 32-bit sums of so many bytes do not overflow (5552 is zlib's limit) */

/* table[k][byte]: the checksum of a byte that k zero bytes follow ("slicing by 8", Kounavis and Berry, 2005). */
static uint32_t crc32_table[8][256], crc32c_table[8][256];

static void make_table(uint32_t table[8][256], uint32_t polynomial) {
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++) crc = crc & 1 ? crc >> 1 ^ polynomial : crc >> 1;
        table[0][byte] = crc;
    }
    for (int k = 1; k < 8; k++)
        for (int byte = 0; byte < 256; byte++)
            table[k][byte] = table[k - 1][byte] >> 8 ^ table[0][table[k - 1][byte] & 0xFF];
}

void init_checksums(void) {
    make_table(crc32_table, CRC32_POLYNOMIAL);
    make_table(crc32c_table, CRC32C_POLYNOMIAL);
}

static uint32_t sliced(uint32_t table[8][256], uint32_t state, const uint8_t *data, size_t size) {
    for (; size >= 8; data += 8, size -= 8) {
        state ^= (uint32_t)data[0] | (uint32_t)data[1] << 8 | (uint32_t)data[2] << 16 | (uint32_t)data[3] << 24;
        state = table[7][state & 0xFF] ^ table[6][state >> 8 & 0xFF] ^ table[5][state >> 16 & 0xFF] ^
                table[4][state >> 24] ^ table[3][data[4]] ^ table[2][data[5]] ^ table[1][data[6]] ^ table[0][data[7]];
    }
    for (; size > 0; data++, size--) state = state >> 8 ^ table[0][(state ^ *data) & 0xFF];
    return state;
}

#if defined(__x86_64__)

/* Folding by carry-less multiplication: Gopal et al., "Fast CRC computation for generic polynomials using PCLMULQDQ",
 * Intel, 2009. The constants are powers of x modulo the polynomial, bit-reversed. Needs 64 bytes or more. */
__attribute__((target("pclmul,sse4.1"))) static uint32_t folded(uint32_t state, const uint8_t *data, size_t size) {
    const __m128i by_64 = _mm_set_epi64x(0x01C6E41596, 0x0154442BD4);
    const __m128i by_16 = _mm_set_epi64x(0x00CCAA009E, 0x01751997D0);
    __m128i lane[4];
    for (int i = 0; i < 4; i++) lane[i] = _mm_loadu_si128((const __m128i *)(data + 16 * i));
    lane[0] = _mm_xor_si128(lane[0], _mm_cvtsi32_si128((int)state));
    for (data += 64, size -= 64; size >= 64; data += 64, size -= 64) {
        for (int i = 0; i < 4; i++) {
            __m128i low = _mm_clmulepi64_si128(lane[i], by_64, 0x00), high = _mm_clmulepi64_si128(lane[i], by_64, 0x11);
            __m128i next = _mm_loadu_si128((const __m128i *)(data + 16 * i));
            lane[i] = _mm_xor_si128(_mm_xor_si128(low, high), next);
        }
    }
    __m128i x = lane[0];
    for (int i = 1; i < 4; i++) {
        __m128i low = _mm_clmulepi64_si128(x, by_16, 0x00), high = _mm_clmulepi64_si128(x, by_16, 0x11);
        x = _mm_xor_si128(_mm_xor_si128(low, high), lane[i]);
    }
    for (; size >= 16; data += 16, size -= 16) {
        __m128i low = _mm_clmulepi64_si128(x, by_16, 0x00), high = _mm_clmulepi64_si128(x, by_16, 0x11);
        x = _mm_xor_si128(_mm_xor_si128(low, high), _mm_loadu_si128((const __m128i *)data));
    }
    /* The remainder of 16 bytes is what the table makes of them, so no Barrett reduction is needed. */
    uint8_t last[16];
    _mm_storeu_si128((__m128i *)last, x);
    return sliced(crc32_table, sliced(crc32_table, 0, last, 16), data, size);
}

__attribute__((target("sse4.2"))) static uint32_t crc32c_sse(uint32_t state, const uint8_t *data, size_t size) {
    uint64_t wide = state;
    for (; size >= 8; data += 8, size -= 8) {
        uint64_t word;
        memcpy(&word, data, 8);
        wide = _mm_crc32_u64(wide, word);
    }
    state = (uint32_t)wide;
    for (; size > 0; data++, size--) state = _mm_crc32_u8(state, *data);
    return state;
}

#endif

uint32_t crc32_update(uint32_t crc, const uint8_t *data, size_t size) {
#if defined(__x86_64__)
    if (cpu.pclmul && size >= 64) return ~folded(~crc, data, size);
#endif
    return ~sliced(crc32_table, ~crc, data, size);
}

uint32_t crc32c_update(uint32_t crc, const uint8_t *data, size_t size) {
#if defined(__x86_64__)
    if (cpu.sse42) return ~crc32c_sse(~crc, data, size);
#endif
    return ~sliced(crc32c_table, ~crc, data, size);
}

#define STRIDE 32
static const uint8_t WEIGHTS[STRIDE] = {32, 31, 30, 29, 28, 27, 26, 25, 24, 23, 22, 21, 20, 19, 18, 17,
                                        16, 15, 14, 13, 12, 11, 10, 9,  8,  7,  6,  5,  4,  3,  2,  1};

/* At most ADLER_BLOCK bytes, that one more precedes. Whole strides are summed in 16 bits and without branches, which
 * compilers make vectors of. */
static void add_plain(Survey *found, uint32_t *a, uint32_t *b, const uint8_t *data, size_t size) {
    for (; size >= STRIDE; data += STRIDE, size -= STRIDE) {
        uint16_t others = 0, magnitude = 0, repeats = 0, sum = 0;
        uint32_t weighted = 0;
        for (int i = 0; i < STRIDE; i++) {
            uint8_t x = data[i], negative = (uint8_t)-x;
            others += x != 0;
            magnitude += x < negative ? x : negative;
            repeats += x == data[i - 1];
            sum += x;
            weighted += (uint16_t)(x * WEIGHTS[i]);
        }
        found->others += others;
        found->magnitude += magnitude;
        found->repeats += repeats;
        *b += STRIDE * *a + weighted;
        *a += sum;
    }
    for (; size > 0; data++, size--) {
        found->others += *data != 0;
        found->magnitude += *data < 128 ? *data : 256u - *data;
        found->repeats += *data == data[-1];
        *a += *data;
        *b += *a;
    }
}

#if defined(__x86_64__)

/* A multiple of 32 bytes, at most ADLER_BLOCK, that one more precedes. */
TARGET_AVX2 static void add_avx2(Survey *found, uint32_t *a, uint32_t *b, const uint8_t *data, size_t size) {
    const __m256i zero = _mm256_setzero_si256(), ones = _mm256_set1_epi16(1);
    const __m256i weights = _mm256_loadu_si256((const __m256i *)WEIGHTS);
    __m256i zeros = zero, repeats = zero, magnitude = zero, sum = zero, sums_before = zero, weighted = zero;
    for (size_t at = 0; at < size; at += 32) {
        __m256i x = _mm256_loadu_si256((const __m256i *)(data + at));
        zeros = _mm256_add_epi64(
            zeros, _mm256_sad_epu8(_mm256_sub_epi8(zero, _mm256_cmpeq_epi8(x, zero)), zero));
        __m256i before = _mm256_loadu_si256((const __m256i *)(data + at - 1));
        repeats = _mm256_add_epi64(
            repeats, _mm256_sad_epu8(_mm256_sub_epi8(zero, _mm256_cmpeq_epi8(x, before)), zero));
        magnitude = _mm256_add_epi64(magnitude, _mm256_sad_epu8(_mm256_abs_epi8(x), zero)); /* |-128| is 128 unsigned */
        sums_before = _mm256_add_epi64(sums_before, sum);
        sum = _mm256_add_epi64(sum, _mm256_sad_epu8(x, zero));
        weighted = _mm256_add_epi32(weighted, _mm256_madd_epi16(_mm256_maddubs_epi16(x, weights), ones));
    }
    uint64_t part[5][4];
    uint32_t parts[8];
    _mm256_storeu_si256((__m256i *)part[0], zeros);
    _mm256_storeu_si256((__m256i *)part[1], magnitude);
    _mm256_storeu_si256((__m256i *)part[2], sum);
    _mm256_storeu_si256((__m256i *)part[3], sums_before);
    _mm256_storeu_si256((__m256i *)part[4], repeats);
    _mm256_storeu_si256((__m256i *)parts, weighted);
    uint64_t total[5], all = 0;
    for (int k = 0; k < 5; k++) total[k] = part[k][0] + part[k][1] + part[k][2] + part[k][3];
    for (int k = 0; k < 8; k++) all += parts[k];
    found->others += size - total[0];
    found->magnitude += total[1];
    found->repeats += total[4];
    *b = (uint32_t)((*b + (uint64_t)*a * size + STRIDE * total[3] + all) % ADLER_MODULUS);
    *a = (uint32_t)((*a + total[2]) % ADLER_MODULUS);
}

#endif

Survey survey(const uint8_t *data, size_t size) {
    Survey found = {0, 0, 0, 0};
    uint32_t a = 1, b = 0;
    if (size > 0) { /* the first byte has none before it to repeat */
        const uint8_t first[2] = {(uint8_t)~data[0], data[0]};
        add_plain(&found, &a, &b, first + 1, 1);
        data++, size--;
    }
    while (size > 0) {
        size_t block = size < ADLER_BLOCK ? size : ADLER_BLOCK, wide = 0;
#if defined(__x86_64__)
        if (cpu.avx2) {
            wide = block & ~(size_t)(STRIDE - 1);
            add_avx2(&found, &a, &b, data, wide);
        }
#endif
        add_plain(&found, &a, &b, data + wide, block - wide);
        a %= ADLER_MODULUS;
        b %= ADLER_MODULUS;
        data += block;
        size -= block;
    }
    found.adler = b << 16 | a;
    return found;
}
