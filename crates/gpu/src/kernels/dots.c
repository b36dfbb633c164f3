/* Products of a tile's queries with its rows: groups of 256, each a square of 64 x 64, four by four per thread.
 * Where cuBLAS is at hand it does this. dim is a multiple of DOTS_DEPTH. */

#define DOTS_SIDE 64
#define DOTS_DEPTH 16

KERNEL void dots(GLOBAL const float *queries, GLOBAL const float *rows, GLOBAL float *products, uint dim, uint stride,
                 uint query_at, uint query_count, uint row_at, uint row_count)
{
    SHARED float q[DOTS_DEPTH][DOTS_SIDE];
    SHARED float r[DOTS_DEPTH][DOTS_SIDE];
    uint thread = THREAD();
    uint row_start = GROUP_X() * DOTS_SIDE, query_start = GROUP_Y() * DOTS_SIDE;
    /* Which square of four by four it computes. */
    uint across = (thread % 16) * 4, down = (thread / 16) * 4;
    /* Which four components it fetches. */
    uint fetched = thread / 4, component = (thread % 4) * 4;
    float sums[4][4];
    for (uint i = 0; i < 4; i++)
        for (uint j = 0; j < 4; j++)
            sums[i][j] = 0.0f;

    for (uint depth = 0; depth < dim; depth += DOTS_DEPTH) {
        for (uint c = 0; c < 4; c++) {
            uint query = query_start + fetched, row = row_start + fetched;
            ulong offset = depth + component + c;
            q[component + c][fetched] = query < query_count ? queries[(ulong)(query_at + query) * dim + offset] : 0.0f;
            r[component + c][fetched] = row < row_count ? rows[(ulong)(row_at + row) * dim + offset] : 0.0f;
        }
        BARRIER();
        for (uint d = 0; d < DOTS_DEPTH; d++)
            for (uint i = 0; i < 4; i++)
                for (uint j = 0; j < 4; j++)
                    sums[i][j] = MULTIPLY_ADD(q[d][down + i], r[d][across + j], sums[i][j]);
        BARRIER();
    }
    for (uint i = 0; i < 4; i++)
        for (uint j = 0; j < 4; j++)
            if (query_start + down + i < query_count && row_start + across + j < row_count)
                products[(ulong)(query_start + down + i) * stride + row_start + across + j] = sums[i][j];
}
