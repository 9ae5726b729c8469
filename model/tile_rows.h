/* The rows of a tile of a product, for kernels of up to 12 rows. */
#ifndef SEM_MODEL_TILE_ROWS_H
#define SEM_MODEL_TILE_ROWS_H

/* Expands DO for every row of a tile: its number and where it begins, by a, b and c that
 * are five rows of `stride` bytes apart. rows is a constant where this is done, and what
 * is beyond it falls away. Sums have names, because an array of them would be kept in
 * memory. */
#define EACH_ROW(DO)                                                                                                   \
    DO(0, a)                                                                                                           \
    DO(1, a + stride)                                                                                                  \
    DO(2, a + 2 * stride)                                                                                              \
    DO(3, a + 3 * stride)                                                                                              \
    DO(4, a + 4 * stride)                                                                                              \
    DO(5, b)                                                                                                           \
    DO(6, b + stride)                                                                                                  \
    DO(7, b + 2 * stride)                                                                                              \
    DO(8, b + 3 * stride)                                                                                              \
    DO(9, b + 4 * stride)                                                                                              \
    DO(10, c)                                                                                                          \
    DO(11, c + stride)

#endif
