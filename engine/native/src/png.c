#include "png.h"

#include <string.h>

#include "checksums.h"
#include "core.h"
#include "cpu.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum { NONE, SUB, UP, AVERAGE, PAETH };

#define SHORT 1100 /* filtered bytes up to which "Up" is as small as "Paeth", and faster; see png.py */

/* ---- filters ------------------------------------------------------------------------------------------------- */

/* Sub on the first row, which has none above it, Up on the others. */
ALWAYS_INLINE void filter_up(const uint8_t *pixels, const PngImage *image, uint8_t *out) {
    size_t width = image->row_bytes, step = image->pixel_bytes;
    *out++ = SUB;
    memcpy(out, pixels, step);
    for (size_t j = step; j < width; j++) out[j] = (uint8_t)(pixels[j] - pixels[j - step]);
    out += width;
    for (size_t row = 1; row < image->rows; row++, out += width) {
        const uint8_t *above = pixels;
        pixels += width;
        *out++ = UP;
        for (size_t j = 0; j < width; j++) out[j] = (uint8_t)(pixels[j] - above[j]);
    }
}

/* Paeth's prediction: whichever is nearest to left + above - corner, the first of equals. Without branches, since which
 * one it is cannot be foreseen, and in 16 bits, so that compilers make it of vectors. */
ALWAYS_INLINE int16_t predicted(int16_t left, int16_t above, int16_t corner) {
    int16_t to_left = above - corner, to_above = left - corner, to_corner = to_left + to_above;
    to_left = to_left < 0 ? -to_left : to_left;
    to_above = to_above < 0 ? -to_above : to_above;
    to_corner = to_corner < 0 ? -to_corner : to_corner;
    int16_t guess = to_above <= to_corner ? above : corner, nearest = to_above <= to_corner ? to_above : to_corner;
    return to_left <= nearest ? left : guess;
}

#if defined(__x86_64__)

/* predicted() of 32 bytes. All distances fit bytes: the third is the sum of the first two where left and above lie on one
 * side of corner (a saturated sum is no less than either), and their difference otherwise. */
TARGET_AVX2 static inline __m256i predicted_avx2(__m256i left, __m256i above, __m256i corner) {
    const __m256i zero = _mm256_setzero_si256();
    __m256i above_over = _mm256_subs_epu8(above, corner), above_under = _mm256_subs_epu8(corner, above);
    __m256i left_over = _mm256_subs_epu8(left, corner), left_under = _mm256_subs_epu8(corner, left);
    __m256i to_left = _mm256_or_si256(above_over, above_under), to_above = _mm256_or_si256(left_over, left_under);
    __m256i opposite = _mm256_or_si256(_mm256_min_epu8(above_over, left_under), _mm256_min_epu8(above_under, left_over));
    __m256i sum = _mm256_adds_epu8(to_left, to_above);
    __m256i difference = _mm256_or_si256(_mm256_subs_epu8(to_left, to_above), _mm256_subs_epu8(to_above, to_left));
    __m256i to_corner = _mm256_blendv_epi8(difference, sum, _mm256_cmpeq_epi8(opposite, zero));
    __m256i take_left = _mm256_and_si256(_mm256_cmpeq_epi8(_mm256_min_epu8(to_left, to_above), to_left),
                                         _mm256_cmpeq_epi8(_mm256_min_epu8(to_left, to_corner), to_left));
    __m256i take_above = _mm256_cmpeq_epi8(_mm256_min_epu8(to_above, to_corner), to_above);
    return _mm256_blendv_epi8(_mm256_blendv_epi8(corner, above, take_above), left, take_left);
}

/* The row's bytes from `at` on, if they fill a vector; the last one overlaps the one before. Returns the first left. */
TARGET_AVX2 static size_t paeth_avx2(const uint8_t *row, const uint8_t *above, size_t at, size_t width, size_t step,
                                     uint8_t *out) {
    if (width - at < 32) return at;
    for (; at < width; at += 32) {
        if (at + 32 > width) at = width - 32;
        __m256i left = _mm256_loadu_si256((const __m256i *)(row + at - step));
        __m256i up = _mm256_loadu_si256((const __m256i *)(above + at));
        __m256i corner = _mm256_loadu_si256((const __m256i *)(above + at - step));
        __m256i here = _mm256_loadu_si256((const __m256i *)(row + at));
        _mm256_storeu_si256((__m256i *)(out + at), _mm256_sub_epi8(here, predicted_avx2(left, up, corner)));
    }
    return width;
}

TARGET_AVX2 static void filter_up_avx2(const uint8_t *pixels, const PngImage *image, uint8_t *out) {
    filter_up(pixels, image, out);
}

#endif

/* `size` bytes, each with its three neighbours. A function of its own, since GCC forgets `restrict` where it inlines one. */
__attribute__((noinline)) static void paeth(const uint8_t *here, const uint8_t *left, const uint8_t *above,
                                            const uint8_t *corner, size_t size, uint8_t *restrict out) {
    for (size_t j = 0; j < size; j++) out[j] = (uint8_t)(here[j] - predicted(left[j], above[j], corner[j]));
}

static void filter_paeth(const uint8_t *pixels, const PngImage *image, uint8_t *out) {
    size_t width = image->row_bytes, step = image->pixel_bytes;
    *out++ = PAETH; /* without a row above, the prediction is the byte to the left */
    memcpy(out, pixels, step);
    for (size_t j = step; j < width; j++) out[j] = (uint8_t)(pixels[j] - pixels[j - step]);
    out += width;
    for (size_t row = 1; row < image->rows; row++, out += width) {
        const uint8_t *above = pixels;
        size_t at = step;
        pixels += width;
        *out++ = PAETH;
        for (size_t j = 0; j < step; j++) out[j] = (uint8_t)(pixels[j] - above[j]);
#if defined(__x86_64__)
        if (cpu.avx2) at = paeth_avx2(pixels, above, at, width, step, out);
#endif
        paeth(pixels + at, pixels + at - step, above + at, above + at - step, width - at, out + at);
    }
}

static void filter(const uint8_t *pixels, const PngImage *image, uint8_t *out) {
    if (png_filtered(image) > SHORT)
        filter_paeth(pixels, image, out);
#if defined(__x86_64__)
    else if (cpu.avx2)
        filter_up_avx2(pixels, image, out);
#endif
    else
        filter_up(pixels, image, out);
}

/* Undo a row's filter. `above` is the row above, or NULL: it is then taken as zeros. With a constant `step`, the pixel to
 * the left is held in registers. */
ALWAYS_INLINE void unfilter_row(uint8_t kind, const uint8_t *in, const uint8_t *above, size_t width, size_t step,
                                uint8_t *row) {
    int left[MAX_PIXEL_BYTES] = {0}, corner[MAX_PIXEL_BYTES] = {0};
    if (above == NULL) /* what the filters do below zeros */
        kind = kind == UP ? NONE : kind == PAETH ? SUB : kind;
    if (kind == NONE) {
        memcpy(row, in, width);
    } else if (kind == UP) {
        for (size_t j = 0; j < width; j++) row[j] = (uint8_t)(in[j] + above[j]);
    } else if (kind == SUB) {
        for (size_t j = 0; j < width; j += step)
            for (size_t c = 0; c < step; c++) row[j + c] = (uint8_t)(left[c] = (in[j + c] + left[c]) & 0xFF);
    } else if (kind == AVERAGE) {
        for (size_t j = 0; j < width; j += step)
            for (size_t c = 0; c < step; c++) {
                int guess = (left[c] + (above == NULL ? 0 : above[j + c])) / 2;
                row[j + c] = (uint8_t)(left[c] = (in[j + c] + guess) & 0xFF);
            }
    } else {
        for (size_t j = 0; j < width; j += step)
            for (size_t c = 0; c < step; c++) {
                int guess = predicted(left[c], above[j + c], corner[c]);
                row[j + c] = (uint8_t)(left[c] = (in[j + c] + guess) & 0xFF);
                corner[c] = above[j + c];
            }
    }
}

int64_t png_unfilter(const uint8_t *filtered, const PngImage *image, uint8_t *pixels) {
    size_t width = image->row_bytes, step = image->pixel_bytes;
    const uint8_t *above = NULL;
    for (size_t row = 0; row < image->rows; row++, filtered += 1 + width, above = pixels, pixels += width) {
        const uint8_t *in = filtered + 1;
        uint8_t kind = filtered[0];
        if (kind > PAETH) return (int64_t)row;
        switch (step) {
            case 1: unfilter_row(kind, in, above, width, 1, pixels); break;
            case 2: unfilter_row(kind, in, above, width, 2, pixels); break;
            case 3: unfilter_row(kind, in, above, width, 3, pixels); break;
            case 4: unfilter_row(kind, in, above, width, 4, pixels); break;
            case 6: unfilter_row(kind, in, above, width, 6, pixels); break;
            case 8: unfilter_row(kind, in, above, width, 8, pixels); break;
            default: unfilter_row(kind, in, above, width, step, pixels);
        }
    }
    return -1;
}

/* ---- files --------------------------------------------------------------------------------------------------- */

static uint8_t *put_big_endian(uint8_t *out, uint32_t value) {
    for (int shift = 24; shift >= 0; shift -= 8) *out++ = (uint8_t)(value >> shift);
    return out;
}

size_t png_filtered(const PngImage *image) { return image->rows * (1 + image->row_bytes); }

#define CHUNK_BYTES 12 /* length, kind and checksum */

size_t png_bound(const PngImage *image) {
    return PNG_HEAD_BYTES + 2 * CHUNK_BYTES + deflate_bound(png_filtered(image));
}

static size_t encode_one(const uint8_t *filtered, const PngImage *image, const ReadyCodes *codes, uint8_t *out) {
    static const uint8_t END_CHUNK[CHUNK_BYTES] = {0, 0, 0, 0, 'I', 'E', 'N', 'D', 0xAE, 0x42, 0x60, 0x82};
    uint8_t *kind = out + PNG_HEAD_BYTES + 4;
    memcpy(out, image->head, PNG_HEAD_BYTES);
    memcpy(kind, "IDAT", 4);
    size_t size = deflate_row(filtered, png_filtered(image), codes, kind + 4);
    put_big_endian(kind - 4, (uint32_t)size);
    uint8_t *at = put_big_endian(kind + 4 + size, crc32_update(0, kind, 4 + size));
    memcpy(at, END_CHUNK, sizeof END_CHUNK);
    return (size_t)(at - out) + sizeof END_CHUNK;
}

void png_encode(const uint8_t *pixels, size_t count, const PngImage *image, const ReadyCodes *codes, uint8_t *scratch,
                uint8_t *out, int64_t *offsets) {
    size_t image_bytes = image->rows * image->row_bytes, at = 0;
    offsets[0] = 0;
    for (size_t i = 0; i < count; i++) {
        filter(pixels + i * image_bytes, image, scratch);
        at += encode_one(scratch, image, codes, out + at);
        offsets[i + 1] = (int64_t)at;
    }
}
