/* A square of LANES rows turned over. Included once after a level's vectors, so it has
 * no include guard. */

/* rows[LANES] becomes its transpose: every pass moves a bit of the row's number into
 * the lane's. */
INLINE void transpose_square(vec rows[LANES])
{
    vec next[LANES];
    _Pragma("GCC unroll 4") for (size_t pass = 1; pass < LANES; pass *= 2)
    {
        _Pragma("GCC unroll 16") for (size_t i = 0; i < LANES / 2; i++)
        {
            next[2 * i] = vec_first_halves(rows[i], rows[i + LANES / 2]);
            next[2 * i + 1] = vec_second_halves(rows[i], rows[i + LANES / 2]);
        }
        memcpy(rows, next, sizeof next);
    }
}
