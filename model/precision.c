#include "model/precision.h"

#include "base/checked.h"

#include <stdlib.h>
#include <string.h>

static sem_status embed(const encoder *e, const token_batch *batch, float *out, sem_error *err)
{
    encoder_scratch *s = NULL;
    sem_status status = encoder_scratch_create(&s, e, 1, err);
    if (status == SEM_OK)
        status = encoder_forward(e, s, batch->ids, batch->lengths, batch->texts, out, err);
    encoder_scratch_destroy(s);
    return status;
}

static double least_cosine(const float *x, const float *y, size_t texts, size_t width)
{
    double least = 1;
    for (size_t i = 0; i < texts; i++) {
        double cosine = 0;
        for (size_t j = 0; j < width; j++)
            cosine += (double)x[i * width + j] * y[i * width + j];
        least = cosine < least ? cosine : least;
    }
    return least;
}

static void report(const char *name, sem_log *log, const precision_choice *choice, const char *reason)
{
    char text[256];
    log_event(log, LOG_LEVEL_INFO, "precision", "model=%s precision=%s min_cosine=%.6f reason=\"%s\"",
              log_value(text, sizeof text, name != NULL ? name : ""), packed_precision_name(choice->precision),
              choice->cosine, reason);
}

/* Packs in one precision and measures it. */
static sem_status try_precision(encoder *e, packed_precision precision, const token_batch *batch, const float *right,
                                float *found, double *cosine, sem_error *err)
{
    sem_status status = encoder_pack(e, precision, NULL, err);
    if (status == SEM_OK)
        status = embed(e, batch, found, err);
    if (status == SEM_OK)
        *cosine = least_cosine(found, right, batch->texts, encoder_width(e));
    return status;
}

/* The fastest that is good enough; right holds float32's embeddings. */
static sem_status try_all(encoder *e, const token_batch *batch, double min_cosine, const char *name, sem_log *log,
                          const float *right, float *found, precision_choice *out, sem_error *err)
{
    static const packed_precision order[] = {PACKED_INT8, PACKED_BFLOAT16};
    for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
        *out = (precision_choice){.precision = order[i]};
        if (!encoder_is_fast(e, order[i])) {
            log_event(log, LOG_LEVEL_DEBUG, "precision_skipped",
                      "precision=%s reason=\"no instructions for it on this machine\"",
                      packed_precision_name(order[i]));
            continue;
        }
        sem_status status = try_precision(e, order[i], batch, right, found, &out->cosine, err);
        if (status != SEM_OK)
            return status;
        if (out->cosine >= min_cosine) {
            report(name, log, out, "the fastest that agrees with float32");
            return SEM_OK;
        }
        report(name, log, out, "agrees too little with float32, not taken");
    }
    *out = (precision_choice){.precision = PACKED_FLOAT32, .cosine = 1};
    report(name, log, out, "nothing faster agrees with it here");
    return encoder_pack(e, PACKED_FLOAT32, NULL, err);
}

static sem_status choose_named(encoder *e, const token_batch *batch, packed_precision wanted, const char *name,
                               sem_log *log, const float *right, float *found, precision_choice *out, sem_error *err)
{
    *out = (precision_choice){.precision = wanted, .cosine = 1};
    sem_status status = try_precision(e, wanted, batch, right, found, &out->cosine, err);
    if (status == SEM_OK)
        report(name, log, out, "asked for by name");
    return status;
}

sem_status precision_choose(encoder *e, const token_batch *batch, const char *wanted, double min_cosine,
                            const char *name, sem_log *log, precision_choice *out, sem_error *err)
{
    packed_precision named = 0;
    while (named < PACKED_PRECISIONS && strcmp(wanted, packed_precision_name(named)) != 0)
        named++;
    if (named == PACKED_PRECISIONS && strcmp(wanted, "auto") != 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "precision \"%.40s\" is not auto, float32, bfloat16 or int8", wanted);
    *out = (precision_choice){.precision = PACKED_FLOAT32, .cosine = 1};
    if (named == PACKED_FLOAT32) {
        report(name, log, out, "asked for by name");
        return SEM_OK;
    }
    size_t count;
    float *both = checked_mul(batch->texts, 2 * encoder_width(e), &count) ? checked_realloc(NULL, count, sizeof *both)
                                                                          : NULL;
    if (both == NULL)
        return sem_fail_memory(err, "the calibration's embeddings");
    float *found = both + count / 2;
    sem_status status = embed(e, batch, both, err);
    if (status == SEM_OK && named < PACKED_PRECISIONS)
        status = choose_named(e, batch, named, name, log, both, found, out, err);
    else if (status == SEM_OK)
        status = try_all(e, batch, min_cosine, name, log, both, found, out, err);
    free(both);
    return status;
}
