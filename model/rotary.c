#include "model/rotary.h"

#include "base/checked.h"

#include <math.h>
#include <stdlib.h>

sem_status rotary_create(rotary_table *out, float theta, size_t half, size_t places, sem_error *err)
{
    size_t count;
    rotary_table table = {.half = half, .places = places};
    if (checked_mul(2 * half, places, &count))
        table.cos = checked_alloc_aligned(count, sizeof(float));
    if (table.cos == NULL)
        return sem_fail_memory(err, "the table of rotary positions");
    table.sin = table.cos + half * places;
    for (size_t i = 0; i < half; i++) {
        /* Rounded to float32 where the reference rounds: far into a text the
         * angle's own rounding is what its cosine is made of. */
        float power = (float)pow((double)theta, (double)(float)((double)i / (double)half));
        float step = 1.0f / power;
        for (size_t place = 0; place < places; place++) {
            float angle = (float)place * step;
            table.cos[place * half + i] = (float)cos((double)angle);
            table.sin[place * half + i] = (float)sin((double)angle);
        }
    }
    *out = table;
    return SEM_OK;
}

void rotary_free(rotary_table *table)
{
    free(table->cos);
    *table = (rotary_table){0};
}

static void turn(const kernels *k, const rotary_table *table, size_t heads, size_t n, float direction, float *qkv)
{
    const size_t half = table->half, D = 2 * half;
    for (size_t place = 0; place < n; place++, qkv += 3 * heads * D)
        for (size_t head = 0; head < 2 * heads; head++) /* the queries' and behind them the keys' */
            k->rotate(qkv + head * D, half, table->cos + place * half, table->sin + place * half, direction);
}

void rotary_forward(const kernels *k, const rotary_table *table, size_t heads, size_t n, float *qkv)
{
    turn(k, table, heads, n, 1, qkv);
}

void rotary_backward(const kernels *k, const rotary_table *table, size_t heads, size_t n, float *d_qkv)
{
    turn(k, table, heads, n, -1, d_qkv);
}
