#include "finetune/loss_choice.h"

#include "base/names.h"

#include <stdlib.h>
#include <string.h>

typedef struct choice {
    loss head;
    loss *members[LOSS_NAMES];
} choice;

static const char *const NAMES[LOSS_NAMES] = {"mnrl", "cosent", "mse"};

bool loss_name_parse(const char *text, loss_name *out)
{
    size_t place;
    if (!names_find(NAMES, LOSS_NAMES, text, &place))
        return false;
    *out = (loss_name)place;
    return true;
}

const char *loss_name_text(loss_name name)
{
    return NAMES[name];
}

static sem_status choice_check(const loss *head, const loss_batch *batch, sem_error *err)
{
    const choice *l = (const choice *)head;
    if (batch->which >= LOSS_NAMES || l->members[batch->which] == NULL)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "a batch for loss number %zu, which this run does not have",
                        batch->which);
    return loss_check(l->members[batch->which], batch, err);
}

static void choice_begin(loss *head, size_t step, size_t steps)
{
    choice *l = (choice *)head;
    for (size_t i = 0; i < LOSS_NAMES; i++)
        if (l->members[i] != NULL)
            loss_begin(l->members[i], step, steps);
}

static double choice_run(loss *head, const loss_batch *batch, float *d_embeddings)
{
    choice *l = (choice *)head;
    if (head->learned != NULL)
        head->learned->gradient = 0;
    return loss_run(l->members[batch->which], batch, d_embeddings);
}

/* That of the first that has one: those of one run are all alike, but for a learned one's. */
static double choice_scale(const loss *head)
{
    const choice *l = (const choice *)head;
    double found = 0;
    for (size_t i = 0; i < LOSS_NAMES && !(found > 0); i++)
        found = l->members[i] != NULL ? loss_scale(l->members[i]) : 0;
    return found;
}

static void choice_destroy(loss *head)
{
    choice *l = (choice *)head;
    for (size_t i = 0; i < LOSS_NAMES; i++)
        loss_destroy(l->members[i]);
    free(l);
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

sem_status loss_choice_create(loss **out, loss *const *members, sem_error *err)
{
    static const loss_kind kind = {.name = "choice",
                                   .check = choice_check,
                                   .begin = choice_begin,
                                   .run = choice_run,
                                   .scale = choice_scale,
                                   .destroy = choice_destroy};
    *out = NULL;
    choice *l = calloc(1, sizeof *l);
    for (size_t i = 0; i < LOSS_NAMES && l == NULL; i++)
        loss_destroy(members[i]);
    if (l == NULL)
        return sem_fail_memory(err, "the losses");
    l->head.kind = &kind;
    memcpy(l->members, members, sizeof l->members);
    for (size_t i = 0; i < LOSS_NAMES; i++) {
        if (members[i] == NULL)
            continue;
        l->head.max_pairs = larger(l->head.max_pairs, members[i]->max_pairs);
        l->head.max_texts = larger(l->head.max_texts, members[i]->max_texts);
        if (members[i]->learned != NULL)
            l->head.learned = members[i]->learned;
    }
    if (l->head.max_pairs == 0) {
        choice_destroy(&l->head);
        return sem_fail(err, SEM_INVALID_ARGUMENT, "a choice of no loss");
    }
    *out = &l->head;
    return SEM_OK;
}
