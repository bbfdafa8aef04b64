// The latents of gen_engine.engine.identity.latents, drawn where the generator runs: the same bits.
//
// One thread makes one block of Philox4x64-10 (Salmon et al. 2011), four words, and of it eight latents of one sample.
// Everything but the last two operations is integer; those are one conversion, one multiplication and one addition,
// each correctly rounded, and never fused: contraction would round once where NumPy rounds twice.
//
// NVRTC compiles this for a GPU. A host compiler, with -ffp-contract=off, compiles the same source so that its bits can
// be compared with NumPy's where there is no GPU.

typedef unsigned int u32;
typedef unsigned long long u64;

#ifdef __CUDACC__
#define DEVICE static __device__ __forceinline__
#define UNROLL _Pragma("unroll")  // so that the words stay in registers
DEVICE u64 high(u64 a, u64 b) { return __umul64hi(a, b); }
DEVICE u32 bits_of(float x) { return __float_as_uint(x); }
DEVICE float rounded(int i) { return __int2float_rn(i); }
DEVICE float line(float slope, float x, float intercept) { return __fadd_rn(__fmul_rn(slope, x), intercept); }
#else
#define DEVICE static inline
#define UNROLL
DEVICE u64 high(u64 a, u64 b) { return (u64)(((unsigned __int128)a * b) >> 64); }
DEVICE u32 bits_of(float x) { u32 bits; __builtin_memcpy(&bits, &x, 4); return bits; }
DEVICE float rounded(int i) { return (float)i; }
DEVICE float line(float slope, float x, float intercept) { float product = slope * x; return product + intercept; }
#endif

struct Words { u64 w[4]; };

DEVICE Words philox4x64_10(Words counter, u64 key0, u64 key1) {
    u64 *c = counter.w;
    for (int round = 0; round < 10; ++round) {
        const u64 h0 = high(0xD2E7470EE14C6C93ull, c[0]), l0 = 0xD2E7470EE14C6C93ull * c[0];
        const u64 h1 = high(0xCA5A826395121157ull, c[2]), l1 = 0xCA5A826395121157ull * c[2];
        c[0] = h1 ^ c[1] ^ key0;
        c[1] = l1;
        c[2] = h0 ^ c[3] ^ key1;
        c[3] = l0;
        key0 += 0x9E3779B97F4A7C15ull;
        key1 += 0xBB67AE8584CAA73Bull;
    }
    return counter;
}

// The quantile function at one integer, of a table of lines indexed by the top 17 bits of its float32.
DEVICE float latent_of(u32 half, const float *intercept, const float *slope) {
    const float x = rounded((int)(half | 1u));
    const u32 segment = bits_of(x) >> 15;
    return line(slope[segment], x, intercept[segment]);
}

// Block `thread` of the batch: latents of sample `thread / blocks`, from its place `8 * (thread % blocks)` on.
DEVICE void draw(u64 thread, u64 first, u64 seed, u64 stream, u32 dim, u32 samples, const float *intercept,
                 const float *slope, float *z_BZ) {
    const u64 blocks = (dim + 7) / 8;
    if (thread >= blocks * samples) return;
    const Words counter = {{first * blocks + thread, 0, 0, 0}};
    const Words made = philox4x64_10(counter, seed, stream);
    const u64 at = 8 * (thread % blocks);
    float *row = z_BZ + thread / blocks * dim;
    UNROLL
    for (u32 i = 0; i < 8; ++i)
        if (at + i < dim) row[at + i] = latent_of((u32)(made.w[i / 2] >> (i % 2 ? 32 : 0)), intercept, slope);
}

#ifdef __CUDACC__
// `first` is read from memory, so that a captured launch draws other samples each time it is replayed.
extern "C" __global__ void draw_latents(const u64 *first, u64 seed, u64 stream, u32 dim, u32 samples,
                                        const float *intercept, const float *slope, float *z_BZ) {
    draw((u64)blockIdx.x * blockDim.x + threadIdx.x, *first, seed, stream, dim, samples, intercept, slope, z_BZ);
}
#else
extern "C" void draw_latents(const u64 *first, u64 seed, u64 stream, u32 dim, u32 samples, const float *intercept,
                             const float *slope, float *z_BZ) {
    const u64 threads = (u64)((dim + 7) / 8) * samples;
    for (u64 thread = 0; thread < threads + 3; ++thread)  // a grid is a few threads larger than its work
        draw(thread, *first, seed, stream, dim, samples, intercept, slope, z_BZ);
}
extern "C" void philox(const u64 *counter, const u64 *key, u64 *words) {
    const Words made = philox4x64_10({{counter[0], counter[1], counter[2], counter[3]}}, key[0], key[1]);
    for (int i = 0; i < 4; ++i) words[i] = made.w[i];
}
#endif
