#include "model/precision.h"

#include "base/checked.h"
#include "model/precision_mix.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What int8 has to reach when it is asked for by name, where some matrices can do that. */
static const double INT8_COSINE = 0.995;

/* Fastest first. */
static const packed_precision ORDER[] = {PACKED_INT8, PACKED_BFLOAT16, PACKED_FLOAT32};
enum { ORDERED = sizeof ORDER / sizeof *ORDER };

static void report(const encoder *e, const char *name, sem_log *log, precision_choice *choice, const char *reason)
{
    char text[256];
    const size_t all = encoder_matrices(e);
    if (choice->wider > 0)
        snprintf(choice->reason, sizeof choice->reason, "%s, with %zu of %zu matrices in %s", reason, choice->wider,
                 all, packed_precision_name(choice->wide));
    else
        snprintf(choice->reason, sizeof choice->reason, "%s", reason);
    log_event(log, LOG_LEVEL_INFO, "precision",
              "model=%s precision=%s wider=%zu matrices=%zu min_cosine=%.6f "
              "reason=\"%s\"",
              log_value(text, sizeof text, name != NULL ? name : ""), packed_precision_name(choice->precision),
              choice->wider, all, choice->cosine, choice->reason);
}

static size_t count_wider(const precision_choice *choice)
{
    size_t count = 0;
    for (const char *letter = choice->table.letters; *letter != 0; letter++)
        count += *letter != packed_precision_name(choice->precision)[0];
    return count;
}

/* Packs in choice->precision and measures it; int8 moves matrices to a wider precision
 * until that is enough. */
static sem_status try_choice(encoder *e, const agreement *a, double min_cosine, precision_choice *choice,
                             sem_error *err)
{
    choice->table = encoder_all_in(e, choice->precision);
    choice->cosine = 1;
    sem_status status = encoder_pack(e, &choice->table, err);
    if (status == SEM_OK && choice->precision != PACKED_FLOAT32)
        status = agreement_measure(e, a, &choice->cosine, err);
    if (status == SEM_OK && choice->precision == PACKED_INT8 && choice->cosine < min_cosine)
        status = precision_mix(e, a, choice->wide, min_cosine, &choice->table, &choice->cosine, err);
    choice->wider = count_wider(choice);
    return status;
}

/* Tries from the fastest on what is named (PACKED_PRECISIONS: any that the machine
 * is fast in) until one is good enough. */
static sem_status try_all(encoder *e, const agreement *a, packed_precision named, double min_cosine, const char *name,
                          sem_log *log, precision_choice *out, sem_error *err)
{
    const bool any = named == PACKED_PRECISIONS;
    out->wide = encoder_is_fast(e, PACKED_BFLOAT16) ? PACKED_BFLOAT16 : PACKED_FLOAT32;
    for (size_t i = 0; i < ORDERED; i++) {
        out->precision = ORDER[i];
        if (any ? !encoder_is_fast(e, ORDER[i]) : ORDER[i] != named)
            continue;
        sem_status status = try_choice(e, a, min_cosine, out, err);
        if (status != SEM_OK)
            return status;
        if (!any || i + 1 == ORDERED || out->cosine >= min_cosine) {
            report(e, name, log, out, any ? "the fastest that agrees with float32" : "asked for by name");
            return SEM_OK;
        }
        report(e, name, log, out, "agrees too little with float32, not taken");
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
    *out = (precision_choice){.precision = PACKED_FLOAT32, .table = encoder_all_in(e, PACKED_FLOAT32), .cosine = 1};
    if (named == PACKED_FLOAT32) {
        report(e, name, log, out, "asked for by name");
        return SEM_OK;
    }
    size_t count;
    float *both = checked_mul(batch->texts, 2 * encoder_width(e), &count) ? checked_realloc(NULL, count, sizeof *both)
                                                                          : NULL;
    if (both == NULL)
        return sem_fail_memory(err, "the calibration's embeddings");
    const agreement a = {batch, both, both + count / 2};
    sem_status status = encoder_hold_rows(e, batch->ids, batch->tokens, err);
    if (status == SEM_OK) {
        if (named != PACKED_BFLOAT16)
            status = encoder_record(e, err);
        if (status == SEM_OK)
            status = agreement_embed(e, batch, both, err);
        if (status == SEM_OK)
            status = try_all(e, &a, named, named == PACKED_PRECISIONS ? min_cosine : INT8_COSINE, name, log, out, err);
        encoder_forget(e);
        encoder_release_rows(e);
    }
    free(both);
    return status;
}
