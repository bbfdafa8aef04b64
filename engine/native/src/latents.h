/* Latents addressed by sample index: what engine/identity/latents.py defines, bit for bit. */
#ifndef GEN_ENGINE_LATENTS_H
#define GEN_ENGINE_LATENTS_H

#include <stddef.h>
#include <stdint.h>

#define BLOCK_WORDS 4
#define BLOCK_LATENTS 8
#define SEGMENT_SHIFT 15 /* the bits of a float32 that do not choose its segment */
#define SEGMENTS (1u << (32 - SEGMENT_SHIFT))

/* The words of `blocks` Philox4x64-10 blocks from `first` on. */
void philox_words(uint64_t seed, uint64_t stream, uint64_t first, size_t blocks, uint64_t *out);

/* The latents of `samples` samples of `dim` values from sample `first` on. `lines` has the intercept and the slope of each
 * segment in turn. */
void draw_latents(uint64_t seed, uint64_t stream, uint64_t first, size_t samples, size_t dim, const float *lines,
                  float *out);

#endif
