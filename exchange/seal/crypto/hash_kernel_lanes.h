/* SM3 and SHA-256 for LANES messages at once. hash_kernel.c includes this file once for each
 * processor level, with these macros: NAME(x) gives each function its own name, LANES is the
 * number of messages, TARGET the attribute that lets the compiler use the level's instructions.
 *
 * A vector holds one 32-bit word of each message, so every line below is the line of the
 * standard, for all messages: GB/T 32905-2016 section 5.3, FIPS 180-4 section 6.2.2. */

typedef uint32_t NAME(vector) __attribute__((vector_size(4 * LANES)));

/* GB/T 32905 section 5.3.3, the compression function CF; w has the 16 words of a block. */
TARGET static void NAME(sm3)(NAME(vector) state[8], NAME(vector) w[68])
{
    NAME(vector) a = state[0], b = state[1], c = state[2], d = state[3];
    NAME(vector) e = state[4], f = state[5], g = state[6], h = state[7];
    for (int j = 16; j < 68; j++) {
        NAME(vector) x = w[j - 16] ^ w[j - 9] ^ ROTATE(w[j - 3], 15);
        w[j] = x ^ ROTATE(x, 15) ^ ROTATE(x, 23) ^ ROTATE(w[j - 13], 7) ^ w[j - 6];
    }
#define ROUND(j, FF, GG)                                                \
    do {                                                                \
        NAME(vector) a12 = ROTATE(a, 12);                               \
        NAME(vector) ss1 = a12 + e + SM3_T[j];                          \
        ss1 = ROTATE(ss1, 7);                                           \
        NAME(vector) tt1 = (FF) + d + (ss1 ^ a12) + (w[j] ^ w[(j) + 4]); \
        NAME(vector) tt2 = (GG) + h + ss1 + w[j];                       \
        d = c, c = ROTATE(b, 9), b = a, a = tt1;                        \
        h = g, g = ROTATE(f, 19), f = e;                                \
        e = tt2 ^ ROTATE(tt2, 9) ^ ROTATE(tt2, 17);                     \
    } while (0)
#pragma GCC unroll 4
    for (int j = 0; j < 16; j++)
        ROUND(j, a ^ b ^ c, e ^ f ^ g);
#pragma GCC unroll 4
    for (int j = 16; j < 64; j++)
        ROUND(j, (a & b) | (c & (a | b)), g ^ (e & (f ^ g)));
#undef ROUND
    state[0] ^= a, state[1] ^= b, state[2] ^= c, state[3] ^= d;
    state[4] ^= e, state[5] ^= f, state[6] ^= g, state[7] ^= h;
}

/* FIPS 180-4 section 6.2.2; w has the 16 words of a block. */
TARGET static void NAME(sha256)(NAME(vector) state[8], NAME(vector) w[68])
{
    NAME(vector) a = state[0], b = state[1], c = state[2], d = state[3];
    NAME(vector) e = state[4], f = state[5], g = state[6], h = state[7];
    for (int t = 16; t < 64; t++) {
        NAME(vector) x = w[t - 15], y = w[t - 2];
        w[t] = (ROTATE(y, 15) ^ ROTATE(y, 13) ^ (y >> 10)) + w[t - 7]
             + (ROTATE(x, 25) ^ ROTATE(x, 14) ^ (x >> 3)) + w[t - 16];
    }
#pragma GCC unroll 8
    for (int t = 0; t < 64; t++) {
        NAME(vector) t1 = h + (ROTATE(e, 26) ^ ROTATE(e, 21) ^ ROTATE(e, 7))
                        + (g ^ (e & (f ^ g))) + SHA256_K[t] + w[t];
        NAME(vector) t2 = (ROTATE(a, 30) ^ ROTATE(a, 19) ^ ROTATE(a, 10))
                        + ((a & b) | (c & (a | b)));
        h = g, g = f, f = e, e = d + t1;
        d = c, c = b, b = a, a = t1 + t2;
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d;
    state[4] += e, state[5] += f, state[6] += g, state[7] += h;
}

/* Hash all messages of a job. A lane whose message ends takes the next one, so that messages
 * of different lengths need no sorting. Idle lanes hash zeros, which nobody reads. */
TARGET static void NAME(hash)(const struct job *job)
{
    NAME(vector) state[8] = {{0}}, w[68] = {{0}};
    struct message lanes[LANES];
    const uint32_t *initial = job->algorithm == SM3 ? SM3_IV : SHA256_IV;
    size_t next = 0, busy = 0;

    for (int lane = 0; lane < LANES; lane++) {
        lanes[lane].active = 0;
        if (next < job->count) {
            take(&lanes[lane], job, next++);
            for (int i = 0; i < 8; i++)
                state[i][lane] = initial[i];
            busy++;
        }
    }
    while (busy) {
        for (int lane = 0; lane < LANES; lane++) {
            if (!lanes[lane].active)
                continue;
            const uint8_t *block = next_block(&lanes[lane]);
            for (int i = 0; i < 16; i++)
                w[i][lane] = load(block + 4 * i);
        }
        if (job->algorithm == SM3)
            NAME(sm3)(state, w);
        else
            NAME(sha256)(state, w);
        for (int lane = 0; lane < LANES; lane++) {
            struct message *message = &lanes[lane];
            if (!message->active || message->block < message->blocks)
                continue;
            for (int i = 0; i < 8; i++)
                store(message->digest + 4 * i, state[i][lane]);
            message->active = 0;
            busy--;
            if (next < job->count) {
                take(message, job, next++);
                for (int i = 0; i < 8; i++)
                    state[i][lane] = initial[i];
                busy++;
            }
        }
    }
}

#undef NAME
#undef LANES
#undef TARGET
