#include "deflate.h"

#include <string.h>

#include "core.h"
#include "cpu.h"

#define MAX_STORED 65535u /* bytes of a stored block */
#define ADLER_BYTES 4
#define ZLIB_HEADER 0x0178u

/* ---- bits ---------------------------------------------------------------------------------------------------- */

typedef struct {
    uint8_t *at;
    uint64_t bits; /* those that are not written, lowest first */
    unsigned count; /* at most 7 between calls of flush */
} BitWriter;

ALWAYS_INLINE void store_word(uint8_t *out, uint64_t word) {
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    memcpy(out, &word, 8);
}

ALWAYS_INLINE void put(BitWriter *writer, uint32_t bits, unsigned count) {
    writer->bits |= (uint64_t)bits << writer->count;
    writer->count += count;
}

/* Write the whole bytes; eight bytes are touched. */
ALWAYS_INLINE void flush(BitWriter *writer) {
    store_word(writer->at, writer->bits);
    writer->at += writer->count >> 3;
    writer->bits >>= writer->count & ~7u;
    writer->count &= 7;
}

static uint8_t *finish(BitWriter *writer, uint32_t adler) {
    flush(writer);
    writer->at += writer->count > 0;
    for (int shift = 24; shift >= 0; shift -= 8) *writer->at++ = (uint8_t)(adler >> shift);
    return writer->at;
}

/* ---- ready codes --------------------------------------------------------------------------------------------- */

/* An entry is used as a shift count: only its low six bits count then, and they are the symbol's length. */
ALWAYS_INLINE void put_symbols(BitWriter *writer, const uint8_t *data, size_t size, const uint32_t *entries) {
    uint64_t bits = writer->bits;
    uint64_t count = writer->count;
    uint8_t *out = writer->at;
    size_t i = 0;
    for (; i + 4 <= size; i += 4) {
        uint64_t e0 = entries[data[i]], e1 = entries[data[i + 1]], e2 = entries[data[i + 2]], e3 = entries[data[i + 3]];
        uint64_t c1 = count + e0, c2 = c1 + e1, c3 = c2 + e2;
        bits |= (e0 >> 6) << (count & 63);
        bits |= (e1 >> 6) << (c1 & 63);
        bits |= (e2 >> 6) << (c2 & 63);
        bits |= (e3 >> 6) << (c3 & 63);
        count = (c3 + e3) & 63;
        store_word(out, bits);
        out += count >> 3;
        bits >>= count & ~UINT64_C(7);
        count &= 7;
    }
    *writer = (BitWriter){out, bits, (unsigned)count};
    for (; i < size; i++) put(writer, entries[data[i]] >> 6, entries[data[i]] & 63);
    flush(writer);
    put(writer, entries[SYMBOLS - 1] >> 6, entries[SYMBOLS - 1] & 63);
}

static void put_symbols_plain(BitWriter *writer, const uint8_t *data, size_t size, const uint32_t *entries) {
    put_symbols(writer, data, size, entries);
}

#if defined(__x86_64__)
TARGET_AVX2 static void put_symbols_bmi2(BitWriter *writer, const uint8_t *data, size_t size, const uint32_t *entries) {
    put_symbols(writer, data, size, entries);
}
#endif

static size_t ready(const uint8_t *data, size_t size, uint32_t adler, const ReadyCodes *codes, int code, uint8_t *out) {
    const uint32_t *entries = codes->entries + (size_t)code * SYMBOLS;
    uint32_t head = codes->head_bits[code];
    memcpy(out, codes->heads + (size_t)code * HEAD_BYTES, HEAD_BYTES);
    BitWriter writer = {out + head / 8, out[head / 8] & ((1u << head % 8) - 1), head % 8};
#if defined(__x86_64__)
    if (cpu.avx2)
        put_symbols_bmi2(&writer, data, size, entries);
    else
#endif
        put_symbols_plain(&writer, data, size, entries);
    return (size_t)(finish(&writer, adler) - out);
}

/* ---- a code per row ------------------------------------------------------------------------------------------ */

#define LITERALS 256
#define END 256
#define FIRST_LENGTH 257
#define ALPHABET 286
#define OWN_LONGEST 15
#define MIN_RUN 3
#define MAX_RUN 258
#define LENGTH_CODES 19
#define LENGTH_CODE_LONGEST 7

typedef struct {
    uint32_t weight;
    uint16_t bits;
    uint8_t length;
} Symbol;

/* An array of structures: of arrays of several element sizes in one structure, GCC 12 loses stores on 64-bit Arm. */
typedef struct {
    Symbol of[ALPHABET];
    int symbols;
} Code;

/* Lengths of the best prefix code with none above `longest`: package-merge, Larmore and Hirschberg, 1990. Among equal
 * weights leaves come first, and leaves in the order of their symbols. */
static void code_lengths(Code *code, int longest) {
    uint16_t leaf[ALPHABET];
    uint64_t before[2 * ALPHABET], merged[2 * ALPHABET]; /* a package may weigh several times the row */
    uint8_t from_leaf[OWN_LONGEST][2 * ALPHABET];
    int leaves = 0, packages = 0;
    for (int symbol = 0; symbol < code->symbols; symbol++) code->of[symbol].length = 0;
    for (int symbol = 0; symbol < code->symbols; symbol++) {
        if (code->of[symbol].weight == 0) continue;
        int at = leaves++; /* insertion: the alphabet is small, and most weights fall */
        for (; at > 0 && code->of[leaf[at - 1]].weight > code->of[symbol].weight; at--) leaf[at] = leaf[at - 1];
        leaf[at] = (uint16_t)symbol;
    }
    if (leaves == 1) code->of[leaf[0]].length = 1;
    if (leaves < 2) return;
    for (int level = 0; level < longest; level++) {
        int next_leaf = 0, next_package = 0, size = 0;
        while (next_leaf < leaves || next_package < packages) {
            bool take_leaf = next_leaf < leaves && (next_package == packages ||
                                                    code->of[leaf[next_leaf]].weight <= before[next_package]);
            from_leaf[level][size] = take_leaf;
            merged[size++] = take_leaf ? code->of[leaf[next_leaf++]].weight : before[next_package++];
        }
        packages = size / 2;
        for (int i = 0; i < packages; i++) before[i] = merged[2 * i] + merged[2 * i + 1];
    }
    for (int level = longest - 1, take = 2 * (leaves - 1); level >= 0 && take > 0; level--) {
        int taken = 0;
        for (int i = 0; i < take; i++) taken += from_leaf[level][i];
        for (int i = 0; i < taken; i++) code->of[leaf[i]].length++;
        take = 2 * (take - taken);
    }
}

/* The canonical code of the lengths, RFC 1951, 3.2.2, with each symbol's bits reversed: lowest first. */
static void canonical_bits(Code *code) {
    unsigned of_length[OWN_LONGEST + 1] = {0}, next[OWN_LONGEST + 2] = {0};
    for (int symbol = 0; symbol < code->symbols; symbol++) of_length[code->of[symbol].length]++;
    of_length[0] = 0;
    for (int length = 1; length <= OWN_LONGEST; length++) next[length + 1] = (next[length] + of_length[length]) << 1;
    for (int symbol = 0; symbol < code->symbols; symbol++) {
        unsigned length = code->of[symbol].length, bits = 0;
        if (length == 0) continue;
        for (unsigned value = next[length]++; length > 0; length--, value >>= 1) bits = bits << 1 | (value & 1);
        code->of[symbol].bits = (uint16_t)bits;
    }
}

/* The symbol of a match's length, its extra bits and their number: RFC 1951, 3.2.5. */
ALWAYS_INLINE void length_symbol(int length, int *symbol, unsigned *extra, unsigned *extra_bits) {
    if (length == MAX_RUN) {
        *symbol = 285, *extra = 0, *extra_bits = 0;
        return;
    }
    unsigned offset = (unsigned)length - 3;
    unsigned wide = offset < 8 ? 0 : 29 - (unsigned)__builtin_clz(offset);
    *symbol = FIRST_LENGTH + (int)(wide << 2) + (int)(offset >> wide);
    *extra = offset & ((1u << wide) - 1);
    *extra_bits = wide;
}

/* Return how many bytes from `at` on, at most MAX_RUN, repeat the one before; 0 if fewer than MIN_RUN do. */
ALWAYS_INLINE int run_at(const uint8_t *data, size_t size, size_t at) {
    if (at == 0) return 0;
    size_t most = size - at < MAX_RUN ? size - at : MAX_RUN, run = 0;
    uint8_t byte = data[at - 1];
    while (run < most && data[at + run] == byte) run++;
    return run < MIN_RUN ? 0 : (int)run;
}

/* ---- the block's header: RFC 1951, 3.2.7 ---------------------------------------------------------------------- */

static const uint8_t ORDER[LENGTH_CODES] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};

typedef struct {
    uint8_t symbol, extra, extra_bits;
} Sent;

/* The lengths as symbols, with repeats: 16 repeats the last one 3 to 6 times, 17 and 18 are 3 to 10 and 11 to 138 zeros. */
static int run_lengths(const uint8_t *lengths, int size, Sent *sent) {
    int sents = 0;
    for (int at = 0; at < size;) {
        uint8_t length = lengths[at];
        int left = 1;
        while (at + left < size && lengths[at + left] == length) left++;
        at += left;
        if (length != 0) {
            sent[sents++] = (Sent){length, 0, 0};
            left--;
        }
        while (left >= 3) {
            int most = length != 0 ? 6 : left >= 11 ? 138 : 10, repeat = left < most ? left : most;
            if (length != 0)
                sent[sents++] = (Sent){16, (uint8_t)(repeat - 3), 2};
            else if (repeat >= 11)
                sent[sents++] = (Sent){18, (uint8_t)(repeat - 11), 7};
            else
                sent[sents++] = (Sent){17, (uint8_t)(repeat - 3), 3};
            left -= repeat;
        }
        for (; left > 0; left--) sent[sents++] = (Sent){length, 0, 0};
    }
    return sents;
}

/* Write zlib's header and that of a final block with this code. As in zlib, two distance codes are defined. */
static void put_head(BitWriter *writer, const Code *code) {
    uint8_t lengths[ALPHABET + 2];
    Sent sent[ALPHABET + 2];
    Code of_lengths = {.symbols = LENGTH_CODES};
    int symbols = code->symbols, shown = LENGTH_CODES;
    while (symbols > END + 1 && code->of[symbols - 1].length == 0) symbols--;
    for (int symbol = 0; symbol < symbols; symbol++) lengths[symbol] = code->of[symbol].length;
    lengths[symbols] = lengths[symbols + 1] = 1;
    int sents = run_lengths(lengths, symbols + 2, sent);
    for (int i = 0; i < sents; i++) of_lengths.of[sent[i].symbol].weight++;
    code_lengths(&of_lengths, LENGTH_CODE_LONGEST);
    canonical_bits(&of_lengths);
    while (of_lengths.of[ORDER[shown - 1]].length == 0) shown--;
    put(writer, ZLIB_HEADER, 16);
    put(writer, 1 | 2 << 1, 3); /* the final block, with a code of its own */
    put(writer, (uint32_t)(symbols - 257), 5);
    put(writer, 1, 5);
    put(writer, (uint32_t)(shown - 4), 4);
    flush(writer);
    for (int i = 0; i < shown; i++) {
        put(writer, of_lengths.of[ORDER[i]].length, 3);
        flush(writer);
    }
    for (int i = 0; i < sents; i++) {
        put(writer, of_lengths.of[sent[i].symbol].bits, of_lengths.of[sent[i].symbol].length);
        put(writer, sent[i].extra, sent[i].extra_bits);
        flush(writer);
    }
}

static void count_tokens(const uint8_t *data, size_t size, Code *code) {
    for (int symbol = 0; symbol < code->symbols; symbol++) code->of[symbol].weight = 0;
    for (size_t at = 0; at < size;) {
        int run = run_at(data, size, at), symbol;
        unsigned extra, extra_bits;
        if (run == 0) {
            code->of[data[at++]].weight++;
            continue;
        }
        length_symbol(run, &symbol, &extra, &extra_bits);
        code->of[symbol].weight++;
        at += (size_t)run;
    }
    code->of[END].weight = 1;
}

/* The bits of the tokens, without the header. */
static uint64_t token_bits(const Code *code) {
    uint64_t bits = 0;
    for (int symbol = 0; symbol < code->symbols; symbol++) {
        unsigned length = code->of[symbol].length;
        if (symbol >= FIRST_LENGTH) {
            unsigned group = (unsigned)(symbol - FIRST_LENGTH) >> 2;
            length += 1 + (symbol == 285 || group < 2 ? 0 : group - 1); /* the distance, and the extra bits */
        }
        bits += (uint64_t)code->of[symbol].weight * length;
    }
    return bits;
}

static void put_tokens(BitWriter *writer, const uint8_t *data, size_t size, const Code *code) {
    for (size_t at = 0; at < size; flush(writer)) {
        int run = run_at(data, size, at), symbol;
        unsigned extra, extra_bits;
        if (run == 0) {
            put(writer, code->of[data[at]].bits, code->of[data[at]].length);
            at++;
            continue;
        }
        length_symbol(run, &symbol, &extra, &extra_bits);
        put(writer, code->of[symbol].bits, code->of[symbol].length);
        put(writer, extra, extra_bits + 1); /* and the distance 1, whose code is a zero bit */
        at += (size_t)run;
    }
    put(writer, code->of[END].bits, code->of[END].length);
}

static size_t stored_size(size_t size) {
    size_t blocks = size == 0 ? 1 : (size + MAX_STORED - 1) / MAX_STORED;
    return 2 + 5 * blocks + size + ADLER_BYTES;
}

static size_t stored(const uint8_t *data, size_t size, uint32_t adler, uint8_t *out) {
    uint8_t *at = out;
    *at++ = ZLIB_HEADER & 0xFF;
    *at++ = ZLIB_HEADER >> 8;
    do {
        size_t block = size < MAX_STORED ? size : MAX_STORED;
        *at++ = block == size;
        *at++ = (uint8_t)block, *at++ = (uint8_t)(block >> 8);
        *at++ = (uint8_t)~block, *at++ = (uint8_t)(~block >> 8);
        memcpy(at, data, block);
        at += block, data += block, size -= block;
    } while (size > 0);
    return (size_t)(finish(&(BitWriter){at, 0, 0}, adler) - out);
}

/* A code of the row's own, if it is smaller than the row stored. */
static size_t own(const uint8_t *data, size_t size, uint32_t adler, uint8_t *out) {
    Code code = {.symbols = ALPHABET};
    count_tokens(data, size, &code);
    code_lengths(&code, OWN_LONGEST);
    if (token_bits(&code) / 8 >= stored_size(size)) return stored(data, size, adler, out);
    canonical_bits(&code);
    BitWriter writer = {out, 0, 0};
    put_head(&writer, &code);
    put_tokens(&writer, data, size, &code);
    size_t made = (size_t)(finish(&writer, adler) - out);
    return made < stored_size(size) ? made : stored(data, size, adler, out);
}

/* ---- the choice ---------------------------------------------------------------------------------------------- */

/* The bins of huffman.py, in the same arithmetic. */
static const double ZEROS_BETWEEN[] = {0.125, 0.325, 0.575}, MAGNITUDES_BETWEEN[] = {2.12, 4.24, 8.49, 17.0, 33.9};
#define MAGNITUDES 6
#define MAX_ZEROS 0.8
#define NOISE 44.0
#define MAX_REPEATS 0.7
#define SHORT 1100

size_t deflate_bound(size_t size) {
    size_t ready_bound = HEAD_BYTES + (size / 8 + 1) * READY_LONGEST + 16;
    /* A code of its own is written if its tokens are smaller than the row stored; its header is at most 2 KiB. */
    size_t own_bound = stored_size(size) + 2048 + 16;
    return ready_bound > own_bound ? ready_bound : own_bound;
}

size_t deflate_row(const uint8_t *data, size_t size, const ReadyCodes *codes, uint8_t *out) {
    Survey found = survey(data, size);
    double zeros = 1 - (double)found.others / (double)size;
    double magnitude = (double)found.magnitude / (double)(found.others > 0 ? found.others : 1);
    bool repetitive = size > SHORT && (double)found.repeats / (double)size > MAX_REPEATS;
    if (zeros > MAX_ZEROS || magnitude * (1 - zeros) > NOISE || repetitive) return own(data, size, found.adler, out);
    int code = 0;
    for (size_t i = 0; i < sizeof ZEROS_BETWEEN / sizeof *ZEROS_BETWEEN; i++)
        code += MAGNITUDES * (ZEROS_BETWEEN[i] < zeros);
    for (size_t i = 0; i < sizeof MAGNITUDES_BETWEEN / sizeof *MAGNITUDES_BETWEEN; i++)
        code += MAGNITUDES_BETWEEN[i] < magnitude;
    return ready(data, size, found.adler, codes, code, out);
}
