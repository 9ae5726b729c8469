#include "bench/clicksim/sets.h"

#include "base/files.h"
#include "base/names.h"
#include "tools/demo/corpus.h"
#include "bench/clicksim/set_files.h"

#include <stdio.h>
#include <stdlib.h>

const char *const sets_names[] = {"italian", "medquad", "cranfield", "words", NULL};

/* --- italian */

static sem_status take_packages(world *w, const corpus *c, size_t most, sem_error *err)
{
    size_t needed = CORPUS_HELDOUT + CORPUS_CLICKED;
    size_t count = most == 0 || most > CORPUS_DOCUMENTS ? CORPUS_DOCUMENTS : most > needed ? most : needed;
    sem_status status = SEM_OK;
    for (size_t i = 0; i < count && status == SEM_OK; i++)
        status = world_add_document(w, c->packages[i].text, err);
    for (size_t i = 0; i < CORPUS_HELDOUT && status == SEM_OK; i++) {
        status = world_add_query(&w->heldout, c->packages[i].italian, (uint32_t)i, err);
        if (status == SEM_OK)
            status = world_add_query(&w->kept, c->packages[i].english, (uint32_t)i, err);
    }
    for (size_t i = CORPUS_HELDOUT; i < needed && status == SEM_OK; i++)
        status = world_add_query(&w->asked, c->packages[i].italian, (uint32_t)i, err);
    w->heldout_is = "Italian queries";
    w->kept_is = "English queries";
    return status;
}

static sem_status load_italian(world *w, const sets_places *places, sem_error *err)
{
    corpus *c = calloc(1, sizeof *c);
    if (c == NULL)
        return sem_fail_memory(err, "the packages");
    sem_status status = corpus_load(c, places->packages, err);
    if (status == SEM_OK)
        status = take_packages(w, c, places->documents, err);
    if (status == SEM_OK)
        corpus_free(c);
    free(c);
    return status;
}

/* --- words */

/* The words of the tiny models' vocabulary, which knows no numbers. */
static sem_status load_words(world *w, sem_error *err)
{
    enum { WORDS = 8, HELDOUT_EVERY = 4 };
    static const char *const topics[WORDS] = {"refund",   "card", "transfer", "account",
                                              "exchange", "cash", "limit",    "fee"};
    static const char *const names[WORDS] = {"music", "dog", "tree", "water", "king", "snow", "bread", "sun"};
    sem_status status = SEM_OK;
    for (uint32_t i = 0; i < WORDS * WORDS * WORDS && status == SEM_OK; i++) {
        size_t a = i % WORDS, b = i / WORDS % WORDS, c = i / WORDS / WORDS;
        char text[128];
        snprintf(text, sizeof text, "my %s and a %s or %s in the bank", topics[a], topics[b], topics[c]);
        status = world_add_document(w, text, err);
        snprintf(text, sizeof text, "my %s and a %s or %s in the bank", names[a], topics[b], topics[c]);
        if (status == SEM_OK)
            status = world_add_query((a + b + c) % HELDOUT_EVERY == 0 ? &w->heldout : &w->asked, text, i, err);
    }
    w->heldout_is = "renamed words";
    return status;
}

sem_status sets_load(world *w, const char *name, const sets_places *places, sem_error *err)
{
    size_t place;
    if (!names_find(sets_names, 4, name, &place))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "there is no set \"%s\"; italian, medquad, cranfield and words are",
                        name);
    switch (place) {
    case 0: return load_italian(w, places, err);
    case 1: return set_files_medquad(w, places->data, places->documents, err);
    case 2: return set_files_cranfield(w, places->data, err);
    default: return load_words(w, err);
    }
}
