/* The hash kernel as a program: for sanitizers, and for processors that an emulator runs.
 *
 * Standard input has calls: nine 64-bit numbers (function, level, algorithm, prefix, sizes of
 * records or leaves, of offsets, of salts, of the result, and 0), then the bytes of the three
 * buffers. Standard output has the status of each (one byte) and the result. Every buffer is
 * allocated with exactly its size, so that a byte beyond it is seen; with the argument "short"
 * one byte less, which a sanitizer has to see. */
#include "hash_kernel.c"

#include <stdio.h>
#include <stdlib.h>

static uint64_t missing;

static uint8_t *take_bytes(uint64_t size)
{
    uint64_t kept = size > missing ? size - missing : size;
    uint8_t *bytes = malloc(kept ? kept : 1);
    if (!bytes || fread(bytes, 1, kept, stdin) != kept)
        exit(2);
    for (uint64_t i = kept; i < size; i++)
        getchar();
    return bytes;
}

int main(int count, char **arguments)
{
    missing = count > 1 && strcmp(arguments[1], "short") == 0;
    uint64_t call[9];
    while (fread(call, sizeof call, 1, stdin) == 1) {
        uint8_t *first = take_bytes(call[4]);
        int64_t *offsets = (int64_t *)take_bytes(call[5]);
        uint8_t *salts = take_bytes(call[6]);
        uint8_t *result = calloc(call[7] ? call[7] : 1, 1);
        int level = (int)call[1], algorithm = (int)call[2];
        if (!result)
            return 2;
        int status = call[0] == 0
            ? hash_kernel_leaves(level, algorithm, (uint8_t)call[3], first, call[4],
                                 offsets, call[5] / 8, salts, call[6], result, call[7])
            : hash_kernel_tree(level, algorithm, (uint8_t)call[3], first, call[4],
                               result, call[7]);
        putchar(status ? 1 : 0);
        fwrite(result, 1, call[7], stdout);
        free(first), free(offsets), free(salts), free(result);
    }
    return 0;
}
