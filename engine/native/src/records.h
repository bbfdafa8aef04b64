/* Records of a batch, one after the other: members of a tar, samples of an MDS shard, TFRecords of Examples, lines of CSV.
 * The formats are described where the NumPy code makes the same bytes: engine/writers/webdataset.py, mds.py, tfrecord.py,
 * csv.py. */
#ifndef GEN_ENGINE_RECORDS_H
#define GEN_ENGINE_RECORDS_H

#include <stddef.h>
#include <stdint.h>

#define TAR_BLOCK 512
#define MAX_INDEX INT64_C(1000000000000) /* names have twelve digits */

/* How the value of sample i is stored. */
typedef enum {
    RAGGED,  /* data[offsets[i]] up to data[offsets[i + 1]] */
    ROWS,    /* `width` bytes from data[i * width] */
    SAME,    /* `width` bytes from data[0], of every sample */
    DECIMAL, /* numbers[i], at least 0, in decimal digits */
    VARINT,  /* numbers[i] as 64 bits in a protocol buffer varint */
    SIGNED,  /* numbers[i] in decimal digits, with a sign if it is negative; nothing of INT64_MIN */
    NAMED,   /* data[offsets[ids[i]]] up to data[offsets[ids[i] + 1]]; nothing of a negative id */
} ColumnKind;

typedef struct {
    ColumnKind kind;
    const uint8_t *data;
    const int64_t *offsets; /* or the numbers */
    size_t width;
    const int64_t *ids;
} Column;

/* A member of a sample's files in a tar. */
typedef struct {
    const uint8_t *header; /* [TAR_BLOCK]: with zero digits for the name, the size and the checksum */
    Column column;
} TarMember;

size_t tar_size(const TarMember *members, size_t member_count, size_t samples);
void tar_write(const TarMember *members, size_t member_count, int64_t first, size_t samples, uint8_t *out);

/* Columns of variable size are RAGGED: their sizes come first. `sizes` gets the size of each sample. */
size_t mds_size(const Column *columns, size_t column_count, size_t samples);
void mds_write(const Column *columns, size_t column_count, size_t samples, uint8_t *out, int64_t *sizes);

/* A feature of a tf.train.Example. Without a name, the column's bytes are whole map entries. */
typedef struct {
    const uint8_t *name;
    size_t name_size;
    int list; /* 1 bytes, 2 floats, 3 integers: field numbers of tf.train.Feature */
    Column column;
} Feature;

size_t tfrecord_size(const Feature *features, size_t feature_count, size_t samples);
void tfrecord_write(const Feature *features, size_t feature_count, size_t samples, uint8_t *out);

/* Lines of CSV: the values as they are, with commas between them and CR LF after the last. At least one column. */
size_t csv_size(const Column *columns, size_t column_count, size_t samples);
void csv_write(const Column *columns, size_t column_count, size_t samples, uint8_t *out);

#endif
