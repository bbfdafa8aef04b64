/* Prints a checksum of what each kernel makes of fixed inputs, to be compared between processors and builds.
 *
 * `kernels LINES`: a file with the quantile table's lines. The codes of the PNG files are invented, since their bytes are
 * compared and not decoded. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checksums.h"
#include "cpu.h"
#include "latents.h"
#include "png.h"
#include "records.h"

static uint64_t checksum(const void *data, size_t size) {
    uint64_t sum = UINT64_C(0xCBF29CE484222325); /* FNV-1a */
    for (size_t i = 0; i < size; i++) sum = (sum ^ ((const uint8_t *)data)[i]) * UINT64_C(0x100000001B3);
    return sum;
}

static void print(const char *name, const void *data, size_t size) {
    printf("%s %zu %016" PRIx64 "\n", name, size, checksum(data, size));
}

static void *allocate(size_t size) {
    void *memory = calloc(size + 1, 1);
    if (memory == NULL) exit(2);
    return memory;
}

static void latents(const float *lines) {
    const size_t dims[] = {1, 7, 8, 100, 129, 2049};
    const uint64_t firsts[] = {0, 999999999999, UINT64_C(1) << 52};
    for (size_t d = 0; d < sizeof dims / sizeof *dims; d++) {
        for (size_t f = 0; f < sizeof firsts / sizeof *firsts; f++) {
            size_t samples = 2000 / dims[d] + 3;
            float *out = allocate(samples * dims[d] * sizeof *out);
            draw_latents(UINT64_C(0x9E3779B97F4A7C15), 0, firsts[f], samples, dims[d], lines, out);
            print("latents", out, samples * dims[d] * sizeof *out);
            free(out);
        }
    }
}

static void png_files(const uint64_t *words) {
    static uint32_t entries[READY_CODES][SYMBOLS], head_bits[READY_CODES];
    static uint8_t heads[READY_CODES][HEAD_BYTES];
    uint8_t head[PNG_HEAD_BYTES] = {0};
    for (unsigned code = 0; code < READY_CODES; code++) {
        head_bits[code] = 100 + 7 * code;
        for (unsigned symbol = 0; symbol < SYMBOLS; symbol++)
            entries[code][symbol] = (symbol * 37 & 0x1FFF) << 6 | (9 + (symbol + code) % 5);
    }
    ReadyCodes codes = {&entries[0][0], &heads[0][0], head_bits};
    const size_t sizes[][3] = {{1, 1, 1}, {28, 28, 1}, {9, 33, 3}, {40, 120, 3}, {64, 256, 4}};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        for (unsigned spread = 0; spread < 8; spread++) { /* from constant to noise */
            PngImage image = {sizes[s][0], sizes[s][1], sizes[s][2], head};
            size_t bytes = image.rows * image.row_bytes;
            uint8_t *pixels = allocate(2 * bytes), *scratch = allocate(png_filtered(&image));
            uint8_t *out = allocate(2 * png_bound(&image)), *again = allocate(bytes);
            int64_t offsets[3];
            for (size_t i = 0; i < 2 * bytes; i++)
                pixels[i] = (uint8_t)(i + (((const uint8_t *)words)[i % 8192] & ((1u << spread) - 1)));
            png_encode(pixels, 2, &image, &codes, scratch, out, offsets);
            print("png", out, (size_t)offsets[2]);
            if (png_unfilter(scratch, &image, again) >= 0 || memcmp(again, pixels + bytes, bytes) != 0) exit(3);
            free(pixels), free(scratch), free(out), free(again);
        }
    }
}

static void records(const uint64_t *words) {
    static uint8_t header[TAR_BLOCK];
    const int64_t offsets[] = {0, 0, 3, 515, 1100}, numbers[] = {0, 9, 10, 999999999};
    const int64_t ids[] = {3, -1, 0, 2}, any[] = {INT64_MIN, INT64_MIN + 1, -10, INT64_MAX};
    memset(header, '0', 40);
    Column columns[] = {
        {RAGGED, (const uint8_t *)words, offsets, 0, NULL}, {ROWS, (const uint8_t *)words, NULL, 40, NULL},
        {DECIMAL, NULL, numbers, 0, NULL},                  {VARINT, NULL, numbers, 0, NULL},
        {SIGNED, NULL, any, 0, NULL},                       {NAMED, (const uint8_t *)words, offsets, 0, ids},
    };
    TarMember members[] = {{header, columns[0]}, {header, columns[1]}, {header, columns[2]}};
    Feature features[] = {{(const uint8_t *)"name", 4, 1, columns[0]}, {(const uint8_t *)"n", 1, 3, columns[3]}};
    int64_t sizes[4];
    size_t size = tar_size(members, 3, 4);
    uint8_t *out = allocate(size);
    tar_write(members, 3, 999999999998, 2, out);
    print("tar", out, size);
    free(out);
    size = mds_size(columns, 2, 4);
    out = allocate(size);
    mds_write(columns, 2, 4, out, sizes);
    print("mds", out, size);
    print("mds sizes", sizes, sizeof sizes);
    free(out);
    size = tfrecord_size(features, 2, 4);
    out = allocate(size);
    tfrecord_write(features, 2, 4, out);
    print("tfrecord", out, size);
    free(out);
    size = csv_size(columns, 6, 4);
    out = allocate(size);
    csv_write(columns, 6, 4, out);
    print("csv", out, size);
    free(out);
}

int main(int argc, char **argv) {
    static uint64_t words[4096];
    float *lines = allocate(2 * SEGMENTS * sizeof *lines);
    FILE *file = argc > 1 ? fopen(argv[1], "rb") : NULL;
    if (file == NULL || fread(lines, sizeof *lines, 2 * SEGMENTS, file) != 2 * SEGMENTS) return 2;
    fclose(file);
    detect_cpu(argc < 3);
    init_checksums();
    philox_words(7, 1, UINT64_MAX - 2000, sizeof words / 32, words);
    print("words", words, sizeof words);
    for (size_t size = 0; size < 300; size += 37)
        printf("crc %08x %08x\n", crc32_update(0, (const uint8_t *)words, size), crc32c_update(0, (const uint8_t *)words, size));
    latents(lines);
    png_files(words);
    records(words);
    return 0;
}
