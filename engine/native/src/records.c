#include "records.h"

#include <string.h>

#include "checksums.h"
#include "core.h"

/* ---- values -------------------------------------------------------------------------------------------------- */

#define MAX_DIGITS 20
#define MAX_VARINT 10

ALWAYS_INLINE size_t digits_of(uint64_t number) {
    size_t digits = 1;
    while (number >= 10) number /= 10, digits++;
    return digits;
}

ALWAYS_INLINE size_t varint_size(uint64_t number) {
    size_t size = 1;
    while (number > 0x7F) number >>= 7, size++;
    return size;
}

ALWAYS_INLINE uint8_t *put_varint(uint8_t *out, uint64_t number) {
    for (; number > 0x7F; number >>= 7) *out++ = (uint8_t)(number | 0x80);
    *out++ = (uint8_t)number;
    return out;
}

ALWAYS_INLINE uint64_t magnitude_of(int64_t number) {
    return number < 0 ? UINT64_C(0) - (uint64_t)number : (uint64_t)number;
}

ALWAYS_INLINE void put_digits(uint8_t *out, size_t size, uint64_t number) {
    for (size_t at = size; at > 0; number /= 10) out[--at] = (uint8_t)('0' + number % 10);
}

ALWAYS_INLINE size_t value_size(const Column *column, size_t i) {
    switch (column->kind) {
        case RAGGED: return (size_t)(column->offsets[i + 1] - column->offsets[i]);
        case DECIMAL: return digits_of((uint64_t)column->offsets[i]);
        case VARINT: return varint_size((uint64_t)column->offsets[i]);
        case SIGNED: {
            int64_t number = column->offsets[i];
            return number == INT64_MIN ? 0 : (size_t)(number < 0) + digits_of(magnitude_of(number));
        }
        case NAMED: {
            int64_t id = column->ids[i];
            return id < 0 ? 0 : (size_t)(column->offsets[id + 1] - column->offsets[id]);
        }
        default: return column->width;
    }
}

ALWAYS_INLINE uint8_t *put_value(uint8_t *out, const Column *column, size_t i) {
    size_t size = value_size(column, i);
    switch (column->kind) {
        case RAGGED: memcpy(out, column->data + column->offsets[i], size); break;
        case ROWS: memcpy(out, column->data + i * column->width, size); break;
        case SAME: memcpy(out, column->data, size); break;
        case DECIMAL: put_digits(out, size, (uint64_t)column->offsets[i]); break;
        case VARINT: return put_varint(out, (uint64_t)column->offsets[i]);
        case SIGNED: {
            size_t sign = size > 0 && column->offsets[i] < 0;
            if (sign) *out = '-';
            put_digits(out + sign, size - sign, magnitude_of(column->offsets[i]));
            break;
        }
        case NAMED:
            if (size > 0) memcpy(out, column->data + column->offsets[column->ids[i]], size);
            break;
    }
    return out + size;
}

static uint8_t *put_little(uint8_t *out, uint64_t number, int bytes) {
    for (int i = 0; i < bytes; i++, number >>= 8) *out++ = (uint8_t)number;
    return out;
}

/* ---- tar ----------------------------------------------------------------------------------------------------- */

#define NAME_DIGITS 12
#define SIZE_AT 124
#define SIZE_DIGITS 11
#define CHECKSUM_AT 148
#define CHECKSUM_DIGITS 6
#define CHECKSUM_FIELD 8

ALWAYS_INLINE size_t padding_of(size_t size) { return (TAR_BLOCK - size % TAR_BLOCK) % TAR_BLOCK; }

size_t tar_size(const TarMember *members, size_t member_count, size_t samples) {
    size_t total = 0;
    for (size_t m = 0; m < member_count; m++) {
        for (size_t i = 0; i < samples; i++) {
            size_t size = value_size(&members[m].column, i);
            total += TAR_BLOCK + size + padding_of(size);
        }
    }
    return total;
}

typedef struct {
    uint8_t digits[NAME_DIGITS];
    unsigned sum; /* of the digits' values */
} Name;

static Name name_of(int64_t index) {
    Name name = {.sum = 0};
    for (int at = NAME_DIGITS - 1; at >= 0; at--, index /= 10) {
        name.digits[at] = (uint8_t)('0' + index % 10);
        name.sum += (unsigned)(index % 10);
    }
    return name;
}

static void increment(Name *name) {
    for (int at = NAME_DIGITS - 1; at >= 0; at--) {
        if (name->digits[at] < '9') {
            name->digits[at]++;
            name->sum++;
            return;
        }
        name->digits[at] = '0';
        name->sum -= 9;
    }
}

/* The sum of the header's bytes with zero digits, and its own field as spaces. */
static unsigned header_sum(const uint8_t *header) {
    unsigned sum = CHECKSUM_FIELD * ' ';
    for (int i = 0; i < TAR_BLOCK; i++)
        if (i < CHECKSUM_AT || i >= CHECKSUM_AT + CHECKSUM_FIELD) sum += header[i];
    return sum;
}

ALWAYS_INLINE unsigned put_octal(uint8_t *out, int digits, uint64_t number) {
    unsigned sum = 0;
    for (int at = digits - 1; at >= 0; at--, number >>= 3) {
        out[at] = (uint8_t)('0' + (number & 7));
        sum += number & 7;
    }
    return sum;
}

#define SUMS_KEPT 32

void tar_write(const TarMember *members, size_t member_count, int64_t first, size_t samples, uint8_t *out) {
    Name name = name_of(first);
    unsigned kept[SUMS_KEPT];
    for (size_t m = 0; m < member_count && m < SUMS_KEPT; m++) kept[m] = header_sum(members[m].header);
    for (size_t i = 0; i < samples; i++, increment(&name)) {
        for (size_t m = 0; m < member_count; m++) {
            const TarMember *member = &members[m];
            size_t size = value_size(&member->column, i), padding = padding_of(size);
            memcpy(out, member->header, TAR_BLOCK);
            memcpy(out, name.digits, NAME_DIGITS);
            unsigned sum = (m < SUMS_KEPT ? kept[m] : header_sum(member->header)) + name.sum;
            sum += put_octal(out + SIZE_AT, SIZE_DIGITS, size);
            put_octal(out + CHECKSUM_AT, CHECKSUM_DIGITS, sum);
            out = put_value(out + TAR_BLOCK, &member->column, i);
            memset(out, 0, padding);
            out += padding;
        }
    }
}

/* ---- MDS ----------------------------------------------------------------------------------------------------- */

size_t mds_size(const Column *columns, size_t column_count, size_t samples) {
    size_t total = 0;
    for (size_t c = 0; c < column_count; c++) {
        if (columns[c].kind == RAGGED)
            total += 4 * samples + (size_t)(columns[c].offsets[samples] - columns[c].offsets[0]);
        else
            total += columns[c].width * samples;
    }
    return total;
}

void mds_write(const Column *columns, size_t column_count, size_t samples, uint8_t *out, int64_t *sizes) {
    for (size_t i = 0; i < samples; i++) {
        const uint8_t *start = out;
        for (size_t c = 0; c < column_count; c++)
            if (columns[c].kind == RAGGED) out = put_little(out, value_size(&columns[c], i), 4);
        for (size_t c = 0; c < column_count; c++) out = put_value(out, &columns[c], i);
        sizes[i] = out - start;
    }
}

/* ---- TFRecord ------------------------------------------------------------------------------------------------ */

#define MASK 0xA282EAD8u

enum { KEY = 1 << 3 | 2, VALUE = 2 << 3 | 2, ONLY = 1 << 3 | 2 }; /* tags of length-delimited fields */

ALWAYS_INLINE size_t framed(size_t size) { return 1 + varint_size(size) + size; }

/* Sizes of the messages around a value of `size` bytes, from the inside: list, feature and map entry. */
typedef struct {
    size_t list, feature, entry;
} Frames;

ALWAYS_INLINE Frames frames_of(const Feature *feature, size_t size) {
    Frames frames;
    frames.list = framed(size);
    frames.feature = framed(frames.list);
    frames.entry = framed(feature->name_size) + framed(frames.feature);
    return frames;
}

ALWAYS_INLINE size_t example_size(const Feature *features, size_t feature_count, size_t i) {
    size_t total = 0;
    for (size_t f = 0; f < feature_count; f++) {
        size_t size = value_size(&features[f].column, i);
        total += features[f].name == NULL ? size : framed(frames_of(&features[f], size).entry);
    }
    return total;
}

size_t tfrecord_size(const Feature *features, size_t feature_count, size_t samples) {
    size_t total = 0;
    for (size_t i = 0; i < samples; i++) total += 16 + framed(example_size(features, feature_count, i));
    return total;
}

static uint8_t *put_tag(uint8_t *out, int tag, size_t size) {
    *out++ = (uint8_t)tag;
    return put_varint(out, size);
}

static uint8_t *put_feature(uint8_t *out, const Feature *feature, size_t i) {
    if (feature->name == NULL) return put_value(out, &feature->column, i);
    size_t size = value_size(&feature->column, i);
    Frames frames = frames_of(feature, size);
    out = put_tag(out, ONLY, frames.entry);
    out = put_tag(out, KEY, feature->name_size);
    memcpy(out, feature->name, feature->name_size);
    out = put_tag(out + feature->name_size, VALUE, frames.feature);
    out = put_tag(out, feature->list << 3 | 2, frames.list);
    out = put_tag(out, ONLY, size);
    return put_value(out, &feature->column, i);
}

/* Masked, since the CRC of data that contains CRCs is degenerate. */
static uint32_t masked(uint32_t crc) { return (crc >> 15 | crc << 17) + MASK; }

void tfrecord_write(const Feature *features, size_t feature_count, size_t samples, uint8_t *out) {
    for (size_t i = 0; i < samples; i++) {
        size_t example = example_size(features, feature_count, i), size = framed(example);
        put_little(out, size, 8);
        out = put_little(out + 8, masked(crc32c_update(0, out, 8)), 4);
        const uint8_t *record = out;
        out = put_tag(out, ONLY, example);
        for (size_t f = 0; f < feature_count; f++) out = put_feature(out, &features[f], i);
        out = put_little(out, masked(crc32c_update(0, record, size)), 4);
    }
}

/* ---- CSV ----------------------------------------------------------------------------------------------------- */

size_t csv_size(const Column *columns, size_t column_count, size_t samples) {
    size_t total = samples * (column_count + 1); /* commas, CR and LF */
    for (size_t c = 0; c < column_count; c++)
        for (size_t i = 0; i < samples; i++) total += value_size(&columns[c], i);
    return total;
}

void csv_write(const Column *columns, size_t column_count, size_t samples, uint8_t *out) {
    for (size_t i = 0; i < samples; i++) {
        for (size_t c = 0; c < column_count; c++) {
            out = put_value(out, &columns[c], i);
            *out++ = ',';
        }
        out[-1] = '\r';
        *out++ = '\n';
    }
}
