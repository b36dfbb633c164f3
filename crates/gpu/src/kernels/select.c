/* Puts the nearest rows of a tile into the lists of its queries. One group of SELECT_THREADS per query.
 *
 * A list holds k <= SELECT_SIZE - SELECT_THREADS keys, rising: the bits of the squared distance, then the row.
 * Keys nearer than the last of the list are collected behind it and sorted in when there is no room for as many as
 * the next step may bring. Since keys are all different, the result does not depend on who comes first. */

#define EMPTY_KEY (~(ulong)0)

/* Bitonic sort of SELECT_SIZE keys, a power of two. Source: Sorting networks and their applications, Batcher (1968). */
FUNCTION void sort_keys(SHARED_ARGUMENT ulong *keys, uint thread)
{
    for (uint size = 2; size <= SELECT_SIZE; size <<= 1) {
        for (uint step = size >> 1; step > 0; step >>= 1) {
            BARRIER();
            for (uint pair = thread; pair < SELECT_SIZE / 2; pair += SELECT_THREADS) {
                uint low = 2 * pair - (pair & (step - 1));
                uint high = low + step;
                ulong a = keys[low], b = keys[high];
                if ((a > b) == ((low & size) == 0)) {
                    keys[low] = b;
                    keys[high] = a;
                }
            }
        }
    }
    BARRIER();
}

/* dots: products of the tile, a line of `stride` per query. squares: of whole slots, the tile's from *_at on.
 * *_first: position of a slot's first point among all points. */
KERNEL void select_nearest(GLOBAL const float *dots, GLOBAL const float *query_squares,
                           GLOBAL const float *row_squares, GLOBAL ulong *lists, uint k, uint stride, uint row_count,
                           uint query_at, uint query_first, uint row_at, uint row_first)
{
    SHARED ulong keys[SELECT_SIZE];
    SHARED uint added;
    uint thread = THREAD();
    uint query = query_at + GROUP_X();
    uint self = query_first + query;
    GLOBAL ulong *list = lists + (ulong)query * k;
    GLOBAL const float *line = dots + (ulong)GROUP_X() * stride;
    float query_square = query_squares[query];

    for (uint at = thread; at < SELECT_SIZE; at += SELECT_THREADS)
        keys[at] = at < k ? list[at] : EMPTY_KEY;
    if (thread == 0)
        added = 0;
    BARRIER();
    ulong bound = keys[k - 1];
    uint merged = 0; /* the same in all threads: is `keys` nearer than `list`? */
    for (uint start = 0; start < row_count; start += SELECT_THREADS) {
        uint row = start + thread;
        if (row < row_count) {
            float distance = query_square + row_squares[row_at + row] - 2.0f * line[row];
            uint position = row_first + row_at + row;
            /* Neither infinite nor not a number. */
            if (distance <= 3.402823466e+38f && position != self) {
                ulong key = (ulong)FLOAT_BITS(distance > 0.0f ? distance : 0.0f) << 32 | position;
                if (key < bound)
                    keys[k + ATOMIC_INCREMENT(&added)] = key;
            }
        }
        BARRIER();
        uint waiting = added;
        BARRIER(); /* all have read it before anybody adds again */
        if (waiting > SELECT_SIZE - k - SELECT_THREADS) {
            sort_keys(keys, thread);
            merged = 1;
            bound = keys[k - 1];
            for (uint at = k + thread; at < SELECT_SIZE; at += SELECT_THREADS)
                keys[at] = EMPTY_KEY;
            if (thread == 0)
                added = 0;
            BARRIER();
        }
    }
    if (added > 0) {
        sort_keys(keys, thread);
        merged = 1;
    }
    if (merged)
        for (uint at = thread; at < k; at += SELECT_THREADS)
            list[at] = keys[at];
}

/* Empties `count` keys; groups of SELECT_THREADS. */
KERNEL void clear_lists(GLOBAL ulong *lists, ulong count)
{
    ulong at = (ulong)GROUP_X() * SELECT_THREADS + THREAD();
    if (at < count)
        lists[at] = EMPTY_KEY;
}
