/* What the daemon takes of memory at most, from its first start through a load. */
#include "tests/daemon/blackbox.h"

enum { TEXT_BYTES = 2000, TEXTS = 16, QUERIES = 50 };

#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

/* MiB that were resident at most since the start (VmHWM). */
static double peak_of(const box *b)
{
    char path[64], line[256];
    unsigned long kib = 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int)b->daemon.pid);
    FILE *file = fopen(path, "r");
    ck_assert_ptr_nonnull(file);
    while (fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "VmHWM: %lu", &kib) == 1)
            break;
    fclose(file);
    ck_assert_uint_gt(kib, 0);
    return (double)kib / 1024;
}

/* Stores the whole vocabulary as long texts, so that each row of the token table is read. */
static void store_vocabulary(box *b, const char *model)
{
    char path[FILES_PATH_MAX], line[256], text[TEXT_BYTES + 256] = "";
    static char docs[TEXTS * (TEXT_BYTES + 512)];
    unsigned count = 0, number = 0;
    size_t used = 0;
    snprintf(path, sizeof path, "%s/vocab.txt", model);
    FILE *file = fopen(path, "r");
    ck_assert_ptr_nonnull(file);
    while (fgets(line, sizeof line, file) != NULL) {
        line[strcspn(line, "\r\n")] = '\0';
        if (strpbrk(line, "'\"\\%") != NULL)
            continue;
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s ", line);
        if (strlen(text) < TEXT_BYTES)
            continue;
        used += (size_t)snprintf(docs + used, sizeof docs - used, "%s{'id': %u, 'text': '%s'}", count > 0 ? "," : "",
                                 number++, text);
        text[0] = '\0';
        if (++count == TEXTS) {
            box_call(b, "upsert", "{'docs': [%s]}", docs);
            count = 0;
            used = 0;
        }
    }
    fclose(file);
    ck_assert_uint_gt(number, 4 * TEXTS);
}

START_TEST(two_workers_stay_within_their_memory)
{
    static const struct {
        const char *option;
        double most; /* MiB */
    } cases[] = {{"model.precision=float32", 200}, {"model.precision=bfloat16", 160}, {"model.precision=int8", 120}};
    const char *model = testing_minilm();
    box b;
    if (model == NULL || !box_create(&b, "golden/tiny-bert"))
        return;
    if (SANITIZED) {
        printf("skipped: a sanitizer takes memory of its own\n");
        return;
    }
    snprintf(b.model, sizeof b.model, "model.path=%s", model);
    b.options[0] = cases[_i].option;
    b.options[1] = "encode.workers=2";
    box_start(&b);
    const msgpack_object *served = object_get(box_call(&b, "info", "{}"), "model");
    ck_assert(object_is(object_get(served, "precision"), strchr(cases[_i].option, '=') + 1));
    ck_assert(object_is(object_get(served, "precision_reason"), "asked for by name"));
    ck_assert_double_gt(object_get(served, "precision_cosine")->via.f64, 0.99);
    store_vocabulary(&b, model);
    for (unsigned i = 0; i < QUERIES; i++)
        box_call(&b, "search", "{'query': 'what is the name of number %u', 'k': 5}", i);
    double first = peak_of(&b);
    ck_assert_msg(first <= cases[_i].most, "%s: %.1f MiB", cases[_i].option, first);
    box_stop(&b);

    box_start(&b);
    box_call(&b, "search", "{'query': 'after a restart', 'k': 5}");
    double second = peak_of(&b);
    ck_assert_msg(second <= cases[_i].most, "%s, started again: %.1f MiB", cases[_i].option, second);
    box_stop(&b);
    printf("%s: %.1f MiB, started again %.1f MiB\n", cases[_i].option, first, second);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("memory");
    TCase *all = tcase_create("all");
    tcase_set_timeout(all, 250);
    tcase_add_loop_test(all, two_workers_stay_within_their_memory, 0, 3);
    suite_add_tcase(suite, all);
    return testing_run(suite);
}
