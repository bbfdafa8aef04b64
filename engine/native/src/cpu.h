/* What the processor supports, asked once when the module is loaded. */
#ifndef GEN_ENGINE_CPU_H
#define GEN_ENGINE_CPU_H

#include <stdbool.h>

typedef struct {
    bool avx2;   /* with BMI2 */
    bool sse42;  /* CRC-32C */
    bool pclmul; /* carry-less multiplication */
} CpuFeatures;

extern CpuFeatures cpu;

/* Fill `cpu`. `simd` false reports none of the features: the portable code is then tested on every machine. */
void detect_cpu(bool simd);

#endif
