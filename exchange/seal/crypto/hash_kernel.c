/* SM3 (GB/T 32905-2016) and SHA-256 (FIPS 180-4) of many short messages at once.
 *
 * Two functions: the salted leaves of a sealed batch, and the tree above them
 * (docs/sealed-batch.md). The other way to the same bytes is hash_python.py, and tests compare
 * both. hash_kernel.py loads this library, tests it, and decides.
 *
 * Nothing is allocated, nothing is kept between calls, nothing secret comes here. Every length
 * is checked against the size of its buffer before a byte is read; a call that is refused
 * writes nothing. Portable C11 with the vector types of GCC and Clang, no intrinsics.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { SM3 = 0, SHA256 = 1 };
enum { BLOCK = 64, DIGEST = 32, MAX_HEAD = 16, INTERFACE = 1 };
enum { REFUSED = -1 };

#define EXPORT __attribute__((visibility("default")))
#define ROTATE(x, n) (((x) << (n)) | ((x) >> (32 - (n))))

static const uint32_t SM3_IV[8] = {
    0x7380166f, 0x4914b2b9, 0x172442d7, 0xda8a0600, 0xa96f30bc, 0x163138aa, 0xe38dee4d, 0xb0fb0e4e,
};
static const uint32_t SHA256_IV[8] = {
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
};
/* T(j) <<< (j mod 32): T is 79cc4519 in the first 16 rounds, then 7a879d8a. */
static const uint32_t SM3_T[64] = {
    0x79cc4519, 0xf3988a32, 0xe7311465, 0xce6228cb, 0x9cc45197, 0x3988a32f, 0x7311465e, 0xe6228cbc,
    0xcc451979, 0x988a32f3, 0x311465e7, 0x6228cbce, 0xc451979c, 0x88a32f39, 0x11465e73, 0x228cbce6,
    0x9d8a7a87, 0x3b14f50f, 0x7629ea1e, 0xec53d43c, 0xd8a7a879, 0xb14f50f3, 0x629ea1e7, 0xc53d43ce,
    0x8a7a879d, 0x14f50f3b, 0x29ea1e76, 0x53d43cec, 0xa7a879d8, 0x4f50f3b1, 0x9ea1e762, 0x3d43cec5,
    0x7a879d8a, 0xf50f3b14, 0xea1e7629, 0xd43cec53, 0xa879d8a7, 0x50f3b14f, 0xa1e7629e, 0x43cec53d,
    0x879d8a7a, 0x0f3b14f5, 0x1e7629ea, 0x3cec53d4, 0x79d8a7a8, 0xf3b14f50, 0xe7629ea1, 0xcec53d43,
    0x9d8a7a87, 0x3b14f50f, 0x7629ea1e, 0xec53d43c, 0xd8a7a879, 0xb14f50f3, 0x629ea1e7, 0xc53d43ce,
    0x8a7a879d, 0x14f50f3b, 0x29ea1e76, 0x53d43cec, 0xa7a879d8, 0x4f50f3b1, 0x9ea1e762, 0x3d43cec5,
};
static const uint32_t SHA256_K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

/* Messages of one form: prefix || head of head_size bytes || body. Body i is
 * bodies[offsets[i]] .. bodies[offsets[i + 1]], or bytes i * stride on where there are none. */
struct job {
    int algorithm;
    uint8_t prefix;
    const uint8_t *heads;
    size_t head_size;
    const uint8_t *bodies;
    const int64_t *offsets;
    size_t stride;
    size_t count;
    uint8_t *digests;
};

/* A message on its way, and the next of its padded blocks. */
struct message {
    uint8_t prefix;
    const uint8_t *head;
    size_t head_size;
    const uint8_t *body;
    size_t body_size;
    uint64_t block, blocks;
    uint8_t *digest;
    int active;
    uint8_t padded[BLOCK];
};

static uint32_t load(const uint8_t *p)
{
    uint32_t value;
    memcpy(&value, p, sizeof value);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    value = __builtin_bswap32(value);
#endif
    return value;
}

static void store(uint8_t *p, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(value >> (24 - 8 * i));
}

static void take(struct message *message, const struct job *job, size_t i)
{
    size_t start = job->offsets ? (size_t)job->offsets[i] : i * job->stride;
    size_t end = job->offsets ? (size_t)job->offsets[i + 1] : start + job->stride;
    message->prefix = job->prefix;
    message->head = job->heads + i * job->head_size;
    message->head_size = job->head_size;
    message->body = job->bodies + start;
    message->body_size = end - start;
    message->block = 0;
    /* After the message: a byte 0x80, zeros, and its length in eight bytes. */
    message->blocks = (1 + job->head_size + (uint64_t)(end - start) + 9 + BLOCK - 1) / BLOCK;
    message->digest = job->digests + i * DIGEST;
    message->active = 1;
}

/* Return the next block of 64 bytes: where it stands, or put together in message->padded. */
static const uint8_t *next_block(struct message *message)
{
    uint64_t lead = 1 + (uint64_t)message->head_size;
    uint64_t total = lead + message->body_size;
    uint64_t from = message->block * BLOCK;
    uint8_t *out = message->padded;
    size_t at = 0;

    message->block++;
    if (from && from + BLOCK <= total)
        return message->body + (from - lead);
    memset(out, 0, BLOCK);
    if (from == 0) {
        out[0] = message->prefix;
        memcpy(out + 1, message->head, message->head_size);
        at = (size_t)lead;
    }
    if (from + at < total) {
        uint64_t left = total - from - at;
        size_t size = left < BLOCK - at ? (size_t)left : BLOCK - at;
        memcpy(out + at, message->body + (from + at - lead), size);
    }
    if (from <= total && total < from + BLOCK)
        out[total - from] = 0x80;
    if (message->block == message->blocks) {
        store(out + 56, (uint32_t)((total * 8) >> 32));
        store(out + 60, (uint32_t)(total * 8));
    }
    return out;
}

/* --- one copy of the hashes for each level of processor ------------------------------------- */

#define NAME(x) baseline_##x
#define LANES 4
#define TARGET
#include "hash_kernel_lanes.h"

#if defined(__x86_64__)
#define NAME(x) avx2_##x
#define LANES 8
#define TARGET __attribute__((target("avx2")))
#include "hash_kernel_lanes.h"

#define NAME(x) avx512_##x
#define LANES 16
#define TARGET __attribute__((target("avx512f")))
#include "hash_kernel_lanes.h"
#endif

enum { BASELINE = 0, AVX2 = 1, AVX512 = 2 };

static int has(int level)
{
#if defined(__x86_64__)
    if (level == AVX2)
        return __builtin_cpu_supports("avx2") != 0;
    if (level == AVX512)
        return __builtin_cpu_supports("avx512f") != 0;
#endif
    return level == BASELINE;
}

static void hash(int level, const struct job *job)
{
#if defined(__x86_64__)
    if (level == AVX512)
        avx512_hash(job);
    else if (level == AVX2)
        avx2_hash(job);
    else
#endif
        baseline_hash(job);
    (void)level;
#ifdef HASH_KERNEL_WRONG_BYTE /* a build for tests: the loader has to notice */
    if (job->count)
        job->digests[(job->count - 1) * DIGEST + DIGEST - 1] ^= 1;
#endif
}

static int usable(int level, int algorithm)
{
    return has(level) && (algorithm == SM3 || algorithm == SHA256);
}

/* --- what Python calls ---------------------------------------------------------------------- */

/* Number of the interface below; it changes with every change of a signature. */
EXPORT int hash_kernel_interface(void)
{
    return INTERFACE;
}

/* Whether this processor has a level: 0 baseline, 1 AVX2, 2 AVX-512. */
EXPORT int hash_kernel_has(int level)
{
    return has(level);
}

/* Digest i is H(prefix || salt i || record i). offsets has rows + 1 values; salts has rows * 16
 * bytes, or none at all; digests has room for rows * 32. Returns 0, or -1 for sizes that do not
 * agree, offsets that fall or leave the records, and an unknown level or algorithm. */
EXPORT int hash_kernel_leaves(int level, int algorithm, uint8_t prefix,
                              const uint8_t *records, uint64_t records_size,
                              const int64_t *offsets, uint64_t offsets_count,
                              const uint8_t *salts, uint64_t salts_size,
                              uint8_t *digests, uint64_t digests_size)
{
    if (!usable(level, algorithm) || !records || !offsets || !salts || !digests)
        return REFUSED;
    if (offsets_count == 0 || records_size > INT64_MAX / 16 || digests_size % DIGEST)
        return REFUSED;
    uint64_t rows = digests_size / DIGEST;
    if (offsets_count - 1 != rows)
        return REFUSED;
    if (salts_size && (salts_size % MAX_HEAD || salts_size / MAX_HEAD != rows))
        return REFUSED;
    if (offsets[0] < 0 || (uint64_t)offsets[rows] > records_size)
        return REFUSED;
    for (uint64_t i = 0; i < rows; i++)
        if (offsets[i + 1] < offsets[i])
            return REFUSED;
    struct job job = {
        .algorithm = algorithm, .prefix = prefix,
        .heads = salts, .head_size = salts_size ? MAX_HEAD : 0,
        .bodies = records, .offsets = offsets,
        .count = (size_t)rows, .digests = digests,
    };
    hash(level, &job);
    return 0;
}

/* Write all levels of the tree above `count` digests, end to end: node i of a level is
 * H(prefix || digest 2 i || digest 2 i + 1) of the level below; an odd last one is handed up as
 * it is. The last 32 bytes are the root. nodes_size must be exactly what that takes. */
EXPORT int hash_kernel_tree(int level, int algorithm, uint8_t prefix,
                            const uint8_t *leaves, uint64_t leaves_size,
                            uint8_t *nodes, uint64_t nodes_size)
{
    if (!usable(level, algorithm) || !leaves || !nodes)
        return REFUSED;
    if (leaves_size == 0 || leaves_size % DIGEST || leaves_size > INT64_MAX / 4)
        return REFUSED;
    uint64_t needed = 0;
    for (uint64_t n = leaves_size / DIGEST; n > 1; n = (n + 1) / 2)
        needed += (n + 1) / 2 * DIGEST;
    if (nodes_size != needed)
        return REFUSED;
    const uint8_t *below = leaves;
    for (uint64_t n = leaves_size / DIGEST; n > 1; n = (n + 1) / 2) {
        struct job job = {
            .algorithm = algorithm, .prefix = prefix,
            .heads = below, .head_size = 0,
            .bodies = below, .stride = 2 * DIGEST,
            .count = (size_t)(n / 2), .digests = nodes,
        };
        hash(level, &job);
        if (n % 2)
            memcpy(nodes + n / 2 * DIGEST, below + (n - 1) * DIGEST, DIGEST);
        below = nodes;
        nodes += (n + 1) / 2 * DIGEST;
    }
    return 0;
}
