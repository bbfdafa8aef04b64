#include "cpu.h"

CpuFeatures cpu;

void detect_cpu(bool simd) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    cpu.avx2 = simd && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2");
    cpu.sse42 = simd && __builtin_cpu_supports("sse4.2");
    cpu.pclmul = simd && __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1");
#else
    (void)simd;
#endif
}
