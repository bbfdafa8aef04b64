/* Adler-32 (RFC 1950), CRC-32 (ISO-HDLC, of zlib and PNG) and CRC-32C (RFC 3720). */
#ifndef GEN_ENGINE_CHECKSUMS_H
#define GEN_ENGINE_CHECKSUMS_H

#include <stddef.h>
#include <stdint.h>

/* Make the tables; called once, before any other function of this file. */
void init_checksums(void);

/* Continue a checksum: `crc` is that of the bytes before, 0 at the start. */
uint32_t crc32_update(uint32_t crc, const uint8_t *data, size_t size);
uint32_t crc32c_update(uint32_t crc, const uint8_t *data, size_t size);

/* How the bytes of a filtered image are distributed about zero, and their Adler-32, in one pass. */
typedef struct {
    uint64_t others;    /* bytes that are not 0 */
    uint64_t magnitude; /* sum of |x| over all bytes, taken as signed */
    uint64_t repeats;   /* bytes that equal the one before */
    uint32_t adler;
} Survey;

Survey survey(const uint8_t *data, size_t size);

#endif
