/* Draws latents on the processor that it is compiled for.
 *
 * Arguments, any number of times: seed first samples dim. Input: the lines of the table, float32 [2**17, 2]. Output: for
 * each four arguments the latents, float32 [samples, dim], and as many blocks of words from block `first` on, uint64.
 */
#include <stdio.h>
#include <stdlib.h>

#include "cpu.h"
#include "latents.h"

int main(int count, char **arguments) {
    static float lines[2 * SEGMENTS];
    if (fread(lines, sizeof lines, 1, stdin) != 1) return 1;
    detect_cpu(true);
    for (int i = 1; i + 4 <= count; i += 4) {
        uint64_t seed = strtoull(arguments[i], NULL, 10), first = strtoull(arguments[i + 1], NULL, 10);
        size_t samples = strtoull(arguments[i + 2], NULL, 10), dim = strtoull(arguments[i + 3], NULL, 10);
        float *z = malloc(samples * dim * sizeof *z);
        uint64_t *words = malloc(samples * BLOCK_WORDS * sizeof *words);
        if (z == NULL || words == NULL) return 2;
        draw_latents(seed, 0, first, samples, dim, lines, z);
        philox_words(seed, 0, first, samples, words);
        fwrite(z, sizeof *z, samples * dim, stdout);
        fwrite(words, sizeof *words, samples * BLOCK_WORDS, stdout);
        free(z), free(words);
    }
    return 0;
}
