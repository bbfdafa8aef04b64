/* Deflate (RFC 1951) of one row of bytes, as one zlib stream (RFC 1950), by the rules of engine/codecs/huffman.py. */
#ifndef GEN_ENGINE_DEFLATE_H
#define GEN_ENGINE_DEFLATE_H

#include <stddef.h>
#include <stdint.h>

#include "checksums.h"

#define READY_CODES 24
#define SYMBOLS 257 /* the bytes, and the end of the block */
#define HEAD_BYTES 64
#define READY_LONGEST 13 /* bits of a symbol: four of them and seven waiting bits fit a word */

/* The codes that are known beforehand, in the order of huffman.py: made by Python, once. */
typedef struct {
    const uint32_t *entries; /* [READY_CODES][SYMBOLS]: the bits of a symbol, lowest first, << 6 | their number */
    const uint8_t *heads;    /* [READY_CODES][HEAD_BYTES]: zlib's and the block's header */
    const uint32_t *head_bits; /* [READY_CODES] */
} ReadyCodes;

/* The most bytes that a stream of `size` bytes takes. */
size_t deflate_bound(size_t size);

/* Write the zlib stream of `data`, its checksum included, and return its size. */
size_t deflate_row(const uint8_t *data, size_t size, const ReadyCodes *codes, uint8_t *out);

#endif
