/* PNG files of a batch of images: W3C's PNG Specification (third edition), by the rules of engine/codecs/png.py. */
#ifndef GEN_ENGINE_PNG_H
#define GEN_ENGINE_PNG_H

#include <stddef.h>
#include <stdint.h>

#include "deflate.h"

#define PNG_HEAD_BYTES 33 /* the signature and the chunk IHDR */
#define MAX_PIXEL_BYTES 8 /* four channels of 16 bits */

typedef struct {
    size_t rows;
    size_t row_bytes;
    size_t pixel_bytes; /* the distance to the same channel of the pixel to the left, at most MAX_PIXEL_BYTES */
    const uint8_t *head; /* [PNG_HEAD_BYTES] */
} PngImage;

/* Bytes of an image after filtering, and the most that its file takes. */
size_t png_filtered(const PngImage *image);
size_t png_bound(const PngImage *image);

/* Write the files of `count` images one after the other.
 *
 * `scratch` has png_filtered() bytes; `out` has png_bound() for each image; `offsets` has count + 1
 * numbers, which become the offset of each file and of the end. */
void png_encode(const uint8_t *pixels, size_t count, const PngImage *image, const ReadyCodes *codes, uint8_t *scratch,
                uint8_t *out, int64_t *offsets);

/* Undo the filters of an image: `filtered` has rows of a filter number and bytes. Returns the first row whose filter is
 * none of the five, or -1. */
int64_t png_unfilter(const uint8_t *filtered, const PngImage *image, uint8_t *pixels);

#endif
