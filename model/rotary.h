/* Rotary positions (Su et al. 2021, "RoFormer", section 3.4.2): in every head of
 * the queries and keys, column i and column i + D / 2 are the two coordinates of
 * a point that is turned by an angle that grows with the token's place. */
#ifndef SEM_MODEL_ROTARY_H
#define SEM_MODEL_ROTARY_H

#include "base/status.h"
#include "model/kernels.h"

#include <stddef.h>

/* Zeroed: there are no rotary positions. */
typedef struct rotary_table {
    size_t half;   /* D / 2 */
    size_t places; /* of the longest text */
    float *cos;    /* [places, half], owned */
    float *sin;    /* the same, in one piece with it */
} rotary_table;

/* For heads of 2 half columns and texts of up to `places` tokens. */
sem_status rotary_create(rotary_table *out, float theta, size_t half, size_t places, sem_error *err);
void rotary_free(rotary_table *table);

/* Turns the queries and keys of one text: qkv[n, 3H], each of A heads. */
void rotary_forward(const kernels *k, const rotary_table *table, size_t heads, size_t n, float *qkv);
/* Turns their gradients back. */
void rotary_backward(const kernels *k, const rotary_table *table, size_t heads, size_t n, float *d_qkv);

#endif
