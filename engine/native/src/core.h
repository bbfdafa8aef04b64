/* The compiled core: what runs once per sample, in plain C without Python's headers.
 *
 * Every function is a pure function of its arguments, allocates nothing that outlives the call, and makes the bits that
 * the NumPy code beside it makes. Python is known to module.c alone, which releases the interpreter's lock around them.
 */
#ifndef GEN_ENGINE_CORE_H
#define GEN_ENGINE_CORE_H

#include <stddef.h>
#include <stdint.h>

/* Package version and a number to increment whenever a function's arguments or its bytes change.
 * Equal to BUILD in __init__.py: an extension that was built from other sources is refused. */
#define GEN_ENGINE_BUILD "0.2.0+2"

/* A function that is compiled twice, for AVX2 and for every processor: its body is inlined into both. */
#define ALWAYS_INLINE static inline __attribute__((always_inline))

#if defined(__x86_64__)
#define TARGET_AVX2 __attribute__((target("avx2,bmi2")))
#endif

#endif
