#include "model/precision.h"

#include "base/checked.h"
#include "model/precision_mix.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What int8 has to reach when it is asked for by name, where some matrices can do that. */
static const double INT8_COSINE = 0.995;

/* The worst of all texts lies further off than the worst of the calibration's: of 2,000
 * queries by 1.6 times as much (all-MiniLM-L6-v2). auto leaves room for that. */
static const double CALIBRATION_SHARE = 0.6;

/* Fastest first. */
static const packed_precision ORDER[] = {PACKED_INT8, PACKED_BFLOAT16, PACKED_FLOAT32};
enum { ORDERED = sizeof ORDER / sizeof *ORDER };

/* A choice under way. */
typedef struct choosing {
    encoder *e;
    packed_precision named; /* PACKED_PRECISIONS: any that the machine is fast in */
    double min_cosine;
    const char *name;
    sem_log *log;
    agreement texts;
    precision_measured *measured;
    const char *from; /* for the log: where cosines come from */
} choosing;

static void report(const choosing *c, precision_choice *choice, const char *reason)
{
    char text[256];
    const size_t all = encoder_matrices(c->e);
    if (choice->wider > 0)
        snprintf(choice->reason, sizeof choice->reason, "%s, with %zu of %zu matrices in %s", reason, choice->wider,
                 all, packed_precision_name(choice->wide));
    else
        snprintf(choice->reason, sizeof choice->reason, "%s", reason);
    log_event(c->log, LOG_LEVEL_INFO, "precision",
              "model=%s precision=%s wider=%zu matrices=%zu min_cosine=%.6f from=%s "
              "reason=\"%s\"",
              log_value(text, sizeof text, c->name != NULL ? c->name : ""), packed_precision_name(choice->precision),
              choice->wider, all, choice->cosine, c->from, choice->reason);
}

static size_t count_wider(const encoder_precisions *table, packed_precision precision)
{
    size_t count = 0;
    for (const char *letter = table->letters; *letter != 0; letter++)
        count += *letter != packed_precision_name(precision)[0];
    return count;
}

/* Packs in choice->precision and measures it; int8 moves matrices to a wider precision
 * until that is enough. */
static sem_status measure(const choosing *c, precision_choice *choice, sem_error *err)
{
    const agreement *a = &c->texts;
    choice->table = encoder_all_in(c->e, choice->precision);
    choice->cosine = 1;
    sem_status status = encoder_pack(c->e, &choice->table, err);
    if (status == SEM_OK && choice->precision != PACKED_FLOAT32)
        status = agreement_measure(c->e, a, &choice->cosine, err);
    if (status == SEM_OK && choice->precision == PACKED_INT8 && choice->cosine < c->min_cosine)
        status = precision_mix(c->e, a, choice->wide, c->min_cosine, &choice->table, &choice->cosine, err);
    if (status == SEM_OK)
        c->measured->attempts[choice->precision] =
            (precision_attempt){true, c->min_cosine, choice->cosine, choice->table};
    return status;
}

static bool is_asked_for(const choosing *c, packed_precision precision)
{
    return c->named == PACKED_PRECISIONS ? encoder_is_fast(c->e, precision) : precision == c->named;
}

static bool is_taken(const choosing *c, packed_precision precision, double cosine)
{
    return c->named != PACKED_PRECISIONS || precision == PACKED_FLOAT32 || cosine >= c->min_cosine;
}

/* How it came out before, where that would be the same today. */
static const precision_attempt *find_known(const choosing *c, packed_precision precision)
{
    const precision_attempt *a = &c->measured->attempts[precision];
    /* Then none is moved today. */
    const bool enough = count_wider(&a->table, PACKED_INT8) == 0 && a->cosine >= c->min_cosine;
    const bool same = a->bound >= c->min_cosine && a->bound <= c->min_cosine;
    return a->known && (precision != PACKED_INT8 || enough || same) ? a : NULL;
}

/* Whether what was measured before suffices; *taken is the precision that it leads to. */
static bool suffices(const choosing *c, packed_precision *taken)
{
    for (size_t i = 0; i < ORDERED; i++) {
        *taken = ORDER[i];
        if (!is_asked_for(c, ORDER[i]))
            continue;
        const precision_attempt *a = find_known(c, ORDER[i]);
        if (a == NULL && ORDER[i] != PACKED_FLOAT32)
            return false;
        if (is_taken(c, ORDER[i], a != NULL ? a->cosine : 1))
            return true;
    }
    return false;
}

static sem_status try_one(const choosing *c, bool measures, precision_choice *choice, sem_error *err)
{
    const precision_attempt *a = find_known(c, choice->precision);
    sem_status status = SEM_OK;
    if (measures) {
        status = measure(c, choice, err);
    } else {
        choice->table = a != NULL ? a->table : encoder_all_in(c->e, PACKED_FLOAT32);
        choice->cosine = a != NULL ? a->cosine : 1;
    }
    choice->wider = count_wider(&choice->table, choice->precision);
    return status;
}

/* Tries from the fastest on what is asked for until one is good enough. */
static sem_status try_all(const choosing *c, bool measures, precision_choice *out, sem_error *err)
{
    const bool any = c->named == PACKED_PRECISIONS;
    out->wide = encoder_is_fast(c->e, PACKED_BFLOAT16) ? PACKED_BFLOAT16 : PACKED_FLOAT32;
    for (size_t i = 0; i < ORDERED; i++) {
        out->precision = ORDER[i];
        if (!is_asked_for(c, ORDER[i]))
            continue;
        sem_status status = try_one(c, measures, out, err);
        if (status != SEM_OK)
            return status;
        if (is_taken(c, ORDER[i], out->cosine)) {
            report(c, out, any ? "the fastest that agrees with float32" : "asked for by name");
            return SEM_OK;
        }
        report(c, out, "agrees too little with float32, not taken");
    }
    return SEM_OK;
}

/* One pass in float32, by what int8 rounds its weights. */
static sem_status pass_once(const choosing *c, bool records, float *right, sem_error *err)
{
    const token_batch *batch = c->texts.batch;
    sem_status status = agreement_check(&c->texts, err);
    if (status == SEM_OK)
        status = encoder_hold_rows(c->e, batch->ids, batch->tokens, err);
    if (status == SEM_OK && records)
        status = encoder_record(c->e, err);
    return status != SEM_OK ? status : agreement_embed(c->e, batch, right, err);
}

/* It may take long, and nothing else tells of it before the end. */
static void log_measuring(const choosing *c)
{
    char text[256];
    log_event(c->log, LOG_LEVEL_INFO, "precision_measuring", "model=%s matrices=%zu texts=%zu",
              log_value(text, sizeof text, c->name != NULL ? c->name : ""), encoder_matrices(c->e),
              c->texts.batch->texts);
}

static sem_status choose(choosing *c, float *right, precision_choice *out, sem_error *err)
{
    packed_precision taken;
    const bool measures = !suffices(c, &taken);
    sem_status status = SEM_OK;
    if (measures) {
        *c->measured = (precision_measured){.fresh = true};
        c->from = "measured";
        log_measuring(c);
    }
    if (measures || taken == PACKED_INT8)
        status = pass_once(c, c->named != PACKED_BFLOAT16, right, err);
    if (status == SEM_OK)
        status = try_all(c, measures, out, err);
    if (status == SEM_OK && !measures)
        status = encoder_pack(c->e, &out->table, err);
    return status;
}

sem_status precision_choose(encoder *e, const token_batch *batch, const precision_request *request,
                            precision_measured *measured, precision_choice *out, sem_error *err)
{
    const char *wanted = request->wanted;
    packed_precision named = 0;
    while (named < PACKED_PRECISIONS && strcmp(wanted, packed_precision_name(named)) != 0)
        named++;
    if (named == PACKED_PRECISIONS && strcmp(wanted, "auto") != 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "precision \"%.40s\" is not auto, float32, bfloat16 or int8",
                        wanted);
    choosing c = {.e = e,
                  .named = named,
                  .min_cosine = named == PACKED_PRECISIONS ? 1 - CALIBRATION_SHARE * (1 - request->min_cosine)
                                                           : INT8_COSINE,
                  .name = request->name,
                  .log = request->log,
                  .measured = measured,
                  .from = named == PACKED_FLOAT32 ? "nothing" : "stored"};
    *out = (precision_choice){.precision = PACKED_FLOAT32, .table = encoder_all_in(e, PACKED_FLOAT32), .cosine = 1};
    if (named == PACKED_FLOAT32) {
        report(&c, out, "asked for by name");
        return SEM_OK;
    }
    size_t count;
    float *both = checked_mul(batch->texts, 2 * encoder_width(e), &count) ? checked_realloc(NULL, count, sizeof *both)
                                                                          : NULL;
    if (both == NULL)
        return sem_fail_memory(err, "the calibration's embeddings");
    c.texts = (agreement){.batch = batch, .right = both, .found = both + count / 2, .cancel = request->cancel};
    sem_status status = choose(&c, both, out, err);
    encoder_forget(e);
    encoder_release_rows(e);
    free(both);
    return status;
}
