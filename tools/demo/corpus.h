/* Which packages the demonstration uses, and for what. */
#ifndef SEM_TOOLS_DEMO_CORPUS_H
#define SEM_TOOLS_DEMO_CORPUS_H

#include "base/status.h"

#include <stddef.h>

enum {
    CORPUS_HELDOUT = 500,   /* packages whose queries nobody ever clicks */
    CORPUS_CLICKED = 2560,  /* packages that the simulated users look for */
    CORPUS_DOCUMENTS = 5000 /* all of them are loaded */
};

typedef struct corpus_package {
    const char *name, *section;
    const char *english, *italian; /* the one-line descriptions: the queries */
    const char *text;              /* the long English one: the document */
} corpus_package;

/* The first CORPUS_HELDOUT are held out, the next CORPUS_CLICKED are clicked, the
 * rest is there to be told apart from. */
typedef struct corpus {
    corpus_package packages[CORPUS_DOCUMENTS];
    void *memory; /* owned: the strings */
} corpus;

/* Reads the file that texts_join wrote and picks, in the order of a hash of
 * their names (the same on every machine with the same lists), packages that are
 * described in both languages and whose one-line descriptions name no other. */
sem_status corpus_load(corpus *out, const char *path, sem_error *err);
void corpus_free(corpus *c);

/* Clicked and held-out pairs and the held-out documents as JSON lines beside the
 * given folder's packages.jsonl, for training elsewhere: train.jsonl {"query",
 * "document"}, heldout.jsonl {"name", "italian", "english"}, documents.jsonl
 * {"name", "text"}. */
sem_status corpus_export(const corpus *c, const char *folder, sem_error *err);

#endif
