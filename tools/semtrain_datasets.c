/* Public training sets, and what a model learns from each alone. */
#include "proto/number.h"
#include "tools/semtrain.h"

#include <jansson.h>

#include <stdlib.h>

/* result: of a 6-layer MiniLM after 2,000 steps at batch size 256 on the set alone: the
 * mean over the evaluation suite of those who published it; 0: none was. */
static const struct public_set {
    const char *name, *description;
    uint64_t pairs; /* 0: not published */
    double result;
} SETS[] = {
    {"stackexchange_title_body", "title and body of StackExchange posts", 304951, 59.83},
    {"gooaq_pairs", "Google auto-suggest questions and answers", 3012490, 59.76},
    {"msmarco_query_passage_negative", "MS MARCO query, answer passage, hard negative", 9144553, 59.06},
    {"yahoo_answers_title_answer", "title and answer, Yahoo Answers", 1136263, 58.85},
    {"stackexchange_duplicate_questions (title)", "duplicate question titles", 304505, 58.47},
    {"msmarco_query_passage", "MS MARCO query and answer passage", 512701, 58.28},
    {"eli5_question_answer", "ELI5 questions and answers", 325475, 58.24},
    {"yahoo_answers_title_question", "title and question body", 659896, 58.05},
    {"squad_pairs", "SQuAD question and passage", 97909, 58.02},
    {"yahoo_answers_question_answer", "question body and answer", 681766, 57.74},
    {"NQ_train_pairs", "Natural Questions query and answer passage", 130231, 57.48},
    {"quora_duplicates", "duplicate questions", 133563, 57.38},
    {"WikiAnswers_pairs", "duplicate questions, very large", 77427422, 57.34},
    {"stackexchange_duplicate_questions (title+body)", "duplicates with bodies", 250460, 57.30},
    {"S2ORC_citation_pairs", "titles of citing and cited papers", 52603982, 57.28},
    {"stackexchange_duplicate_questions (body, body)", "duplicates, bodies only", 250519, 57.26},
    {"quora_duplicates_triplets", "anchor, duplicate, hard negative", 133563, 56.97},
    {"AllNLI", "SNLI and MultiNLI: entailment pairs, contradiction as hard negative", 377210, 56.57},
    {"MNLI", "entailment / contradiction triplets", 0, 0},
};
enum { SET_COUNT = sizeof SETS / sizeof *SETS };

static sem_status print_json(FILE *out, sem_error *err)
{
    json_t *all = json_array();
    for (size_t i = 0; i < SET_COUNT; i++) {
        const struct public_set *s = &SETS[i];
        json_array_append_new(all, json_pack("{s:s, s:s, s:o, s:o}", "name", s->name, "description", s->description,
                                             "pairs", s->pairs > 0 ? json_integer((json_int_t)s->pairs) : json_null(),
                                             "result", s->result > 0 ? json_real(s->result) : json_null()));
    }
    char *text = json_array_size(all) == SET_COUNT ? json_dumps(all, JSON_REAL_PRECISION(6)) : NULL;
    json_decref(all);
    if (text == NULL)
        return sem_fail_memory(err, "the table of data sets");
    fprintf(out, "%s\n", text);
    free(text);
    return SEM_OK;
}

sem_status run_datasets(semtrain *t, const char *recipe_path, sem_error *err)
{
    static const char *const headers[] = {"data set", "description", "pairs", "result"};
    (void)recipe_path;
    if (t->json)
        return print_json(t->out, err);
    table sets;
    table_init(&sets, headers, 4, 1U << 2 | 1U << 3);
    for (size_t i = 0; i < SET_COUNT; i++) {
        char number[NUMBER_TEXT_MAX];
        table_add(&sets, "%s", SETS[i].name);
        table_add(&sets, "%s", SETS[i].description);
        table_add(&sets, "%s", SETS[i].pairs > 0 ? number_text(number, SETS[i].pairs) : "-");
        if (SETS[i].result > 0)
            table_add(&sets, "%.2f", SETS[i].result);
        else
            table_add(&sets, "-");
    }
    const bool printed = table_print(&sets, t->out);
    table_free(&sets);
    if (!printed)
        return sem_fail_memory(err, "the table of data sets");
    fputs("\nresult: zero-shot, of a 6-layer MiniLM after 2,000 steps at batch size 256 on the set alone\n", t->out);
    return SEM_OK;
}
