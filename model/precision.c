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

/* Below this int8 keeps its projections in bfloat16. */
static const double INT8_COSINE = 0.995;

/* Fastest first. */
static const precision_choice ORDER[] = {{PACKED_INT8, PACKED_INT8, 0, NULL},
                                         {PACKED_INT8, PACKED_BFLOAT16, 0, NULL},
                                         {PACKED_BFLOAT16, PACKED_BFLOAT16, 0, NULL},
                                         {PACKED_FLOAT32, PACKED_FLOAT32, 1, NULL}};
enum { CHOICES = sizeof ORDER / sizeof *ORDER };

static void report(const char *name, sem_log *log, precision_choice *choice, const char *reason)
{
    char text[256];
    choice->reason = reason;
    log_event(log, LOG_LEVEL_INFO, "precision", "model=%s precision=%s projections=%s min_cosine=%.6f reason=\"%s\"",
              log_value(text, sizeof text, name != NULL ? name : ""), packed_precision_name(choice->precision),
              packed_precision_name(choice->projections), choice->cosine, reason);
}

/* Packs as choice says and measures it; right holds float32's embeddings. */
static sem_status try_choice(encoder *e, const token_batch *batch, const float *right, float *found,
                             precision_choice *choice, sem_error *err)
{
    sem_status status = encoder_pack(e, choice->precision, choice->projections, err);
    if (status == SEM_OK && choice->precision != PACKED_FLOAT32) {
        status = embed(e, batch, found, err);
        if (status == SEM_OK)
            choice->cosine = least_cosine(found, right, batch->texts, encoder_width(e));
    }
    return status;
}

/* Tries from the fastest on what is named (PACKED_PRECISIONS: any that the machine
 * is fast in) until one is good enough. */
static sem_status try_all(encoder *e, const token_batch *batch, packed_precision named, double min_cosine,
                          const char *name, sem_log *log, const float *right, float *found, precision_choice *out,
                          sem_error *err)
{
    const bool any = named == PACKED_PRECISIONS;
    for (size_t i = 0; i < CHOICES; i++) {
        *out = ORDER[i];
        if (any ? !encoder_is_fast(e, out->precision) || !encoder_is_fast(e, out->projections)
                : out->precision != named)
            continue;
        sem_status status = try_choice(e, batch, right, found, out, err);
        if (status != SEM_OK)
            return status;
        bool last = i + 1 == CHOICES || (!any && ORDER[i + 1].precision != named);
        if (last || out->cosine >= min_cosine) {
            report(name, log, out, any ? "the fastest that agrees with float32" : "asked for by name");
            return SEM_OK;
        }
        report(name, log, out, "agrees too little with float32, not taken");
    }
    return SEM_OK;
}

sem_status precision_choose(encoder *e, const token_batch *batch, const char *wanted, double min_cosine,
                            const char *name, sem_log *log, precision_choice *out, sem_error *err)
{
    packed_precision named = 0;
    while (named < PACKED_PRECISIONS && strcmp(wanted, packed_precision_name(named)) != 0)
        named++;
    if (named == PACKED_PRECISIONS && strcmp(wanted, "auto") != 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "precision \"%.40s\" is not auto, float32, bfloat16 or int8",
                        wanted);
    *out = ORDER[CHOICES - 1];
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
    sem_status status = encoder_hold_rows(e, batch->ids, batch->tokens, err);
    if (status == SEM_OK) {
        if (named != PACKED_BFLOAT16)
            status = encoder_record(e, err);
        if (status == SEM_OK)
            status = embed(e, batch, both, err);
        if (status == SEM_OK)
            status = try_all(e, batch, named, named == PACKED_PRECISIONS ? min_cosine : INT8_COSINE, name, log, both,
                             found, out, err);
        encoder_forget(e);
        encoder_release_rows(e);
    }
    free(both);
    return status;
}
