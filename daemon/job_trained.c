#include "daemon/job_trained.h"

#include "base/files.h"
#include "base/hash.h"

#include <jansson.h>

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void job_store_mark(const store *s, char out[JOB_STORE_MARK])
{
    static const char name[] = "numbers of judgements";
    snprintf(out, JOB_STORE_MARK, "%016" PRIx64, hash_keyed(store_user_key(s), name, sizeof name));
}

uint64_t job_trained_upto(const store *s, const char *dir)
{
    char path[FILES_PATH_MAX], mark[JOB_STORE_MARK];
    if (files_join(path, NULL, "%s/semd_generation.json", dir) != SEM_OK)
        return 0;
    json_t *o = json_load_file(path, 0, NULL);
    const char *of = json_string_value(json_object_get(o, "store"));
    const json_int_t upto = json_integer_value(json_object_get(o, "trained_upto"));
    job_store_mark(s, mark);
    const bool ours = of != NULL && strcmp(of, mark) == 0 && upto > 0;
    json_decref(o);
    return ours ? (uint64_t)upto : 0;
}
