/* Attention of training by products, beside the kernels'. */
#include "tests/model/attention_inputs.h"

#include "base/random.h"
#include "model/attention_products.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* One text of n tokens, forward and backward, as the kernels and as products compute it. */
typedef struct both_ways {
    attention_shape shape;
    size_t n;
    float *qkv, *d_out;                                  /* what goes in */
    float *context[2], *again[2], *d_qkv[2], *d_bias[2]; /* what comes out */
} both_ways;

enum { BUCKETS = 5, REACH = 200 };

static void compute_by_kernels(both_ways *w, const kernels *k, const dropout_site *drop)
{
    const size_t forward = attention_forward_space(&w->shape, w->n), back = attention_backward_space(&w->shape, w->n);
    float *space = floats(forward > back ? forward : back);
    attention_forward(k, &w->shape, w->qkv, w->n, drop, 3, w->context[0], space);
    attention_backward(k, &w->shape, w->qkv, w->again[0], w->n, drop, 3, w->d_qkv[0], w->d_bias[0], space);
    free(space);
}

/* The gradients take the place of what they are of, as in training. */
static void compute_by_products(both_ways *w, const kernels *k, const dropout_site *drop, packed_precision precision)
{
    sem_error error;
    products *p;
    ck_ok(products_create_at(&p, precision, k->name, &error));
    float *space = floats(attention_products_space(p, &w->shape, w->n) / sizeof(float) + 1);
    attention_products_forward(p, k, &w->shape, w->qkv, w->n, drop, 3, w->context[1], space);
    memcpy(w->d_qkv[1], w->qkv, 3 * w->n * w->shape.hidden * sizeof *w->qkv);
    attention_products_backward(p, k, &w->shape, w->d_qkv[1], w->again[1], w->n, drop, 3, w->d_qkv[1], w->d_bias[1],
                                space);
    products_destroy(p);
    free(space);
}

static void expect_alike(const char *what, const kernels *k, const both_ways *w, float *const found[2], size_t count,
                         float tolerance)
{
    float largest = 0;
    for (size_t i = 0; i < count; i++)
        largest = fmaxf(largest, fabsf(found[0][i]));
    for (size_t i = 0; i < count; i++)
        ck_assert_msg(fabsf(found[0][i] - found[1][i]) <= tolerance * largest,
                      "%s at %s, %zu tokens: [%zu] is %g, not %g", what, k->name, w->n, i, (double)found[1][i],
                      (double)found[0][i]);
}

static void arrange_both(both_ways *w, const attention_shape *shape, size_t n, random_state *r)
{
    const size_t count = n * shape->hidden;
    *w = (both_ways){
        .shape = *shape, .n = n, .qkv = random_floats(3 * count, r, 2), .d_out = random_floats(count, r, 1)};
    for (size_t i = 0; i < 2; i++) {
        w->context[i] = floats(count);
        w->again[i] = floats(count);
        memcpy(w->again[i], w->d_out, count * sizeof *w->d_out);
        w->d_qkv[i] = floats(3 * count);
        w->d_bias[i] = floats(BUCKETS * shape->heads);
    }
}

static void release_both(both_ways *w)
{
    for (size_t i = 0; i < 2; i++) {
        free(w->context[i]);
        free(w->again[i]);
        free(w->d_qkv[i]);
        free(w->d_bias[i]);
    }
    free(w->qkv);
    free(w->d_out);
}

static void expect_ways_alike(const attention_shape *shape, size_t n, const kernels *k, packed_precision precision,
                              random_state *r)
{
    const dropout_site drop = dropout_make_site(n % 2 == 0 ? 0.1f : 0, 7, 1);
    const float tolerance = precision == PACKED_FLOAT32 ? 2e-5f : 3e-2f;
    const size_t count = n * shape->hidden;
    both_ways w;
    arrange_both(&w, shape, n, r);
    compute_by_kernels(&w, k, &drop);
    compute_by_products(&w, k, &drop, precision);
    expect_alike("context", k, &w, w.context, count, tolerance);
    expect_alike("context again", k, &w, w.again, count, tolerance);
    expect_alike("gradients", k, &w, w.d_qkv, 3 * count, tolerance);
    if (shape->bias != NULL)
        expect_alike("gradients of biases", k, &w, w.d_bias, BUCKETS * shape->heads, tolerance);
    release_both(&w);
}

START_TEST(products_give_what_the_kernels_give_at_every_level)
{
    static const size_t tokens[] = {1, 2, 15, 16, 33, 96, 131};
    static uint8_t buckets[2 * REACH - 1];
    static const float bias[BUCKETS * 2] = {0.5f, -0.25f, 1, 0.125f, -1, 0.75f, 0.25f, -0.5f, 0, 1};
    const kernels *levels[KERNELS_MAX + 1];
    random_state r;
    random_seed(&r, testing_seed());
    kernels_available(levels);
    for (size_t i = 0; i < sizeof buckets; i++)
        buckets[i] = (uint8_t)(i % BUCKETS);
    attention_shape shapes[] = {shape_of(2, 32, 0), shape_of(2, 7, 5), shape_of(2, 12, 0)};
    shapes[2].bias = bias;
    shapes[2].buckets = buckets;
    shapes[2].reach = REACH;
    for (size_t l = 0; levels[l] != NULL; l++)
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
            for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++)
                expect_ways_alike(&shapes[s], tokens[i], levels[l], i % 2 == 0 ? PACKED_FLOAT32 : PACKED_BFLOAT16, &r);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("model/attention_products");
    TCase *c = tcase_create("products");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, products_give_what_the_kernels_give_at_every_level);
    suite_add_tcase(suite, c);
    return testing_run(suite);
}
