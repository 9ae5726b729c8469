/* Router directories of sentence-transformers 5 and later: router_config.json names for each
 * route its modules, by folders below the directory, and their types. The modules of a tower may
 * lie anywhere there, so that of ours the Transformer's folder holds the others too, with a
 * modules.json of its own: a model directory within another. */
#include "model/towers.h"

#include "base/crash.h"
#include "model/json.h"
#include "model/model_card.h"
#include "model/model_config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CONFIG_FILE_MAX = 16 << 20 /* bytes */ };

static const char *const NAMES[] = {[TOWER_QUERY] = "query", [TOWER_DOCUMENT] = "document"};
static const char MODELS[] = "sentence_transformers.models.";

bool towers_are(const char *dir)
{
    char path[FILES_PATH_MAX];
    return files_join(path, NULL, "%s/router_config.json", dir) == SEM_OK && access(path, F_OK) == 0;
}

sem_status towers_folder(char out[FILES_PATH_MAX], const char *dir, model_tower which, sem_error *err)
{
    return towers_are(dir) ? files_join(out, err, "%s/%s", dir, NAMES[which]) : files_join(out, err, "%s", dir);
}

static sem_status load(json_t **out, const char *dir, const char *name, sem_error *err)
{
    char path[FILES_PATH_MAX];
    sem_status status = files_join(path, err, "%s/%s", dir, name);
    return status == SEM_OK ? json_load_path(out, path, CONFIG_FILE_MAX, err) : status;
}

static sem_status save(const char *dir, const char *name, json_t *value, sem_error *err)
{
    char path[FILES_PATH_MAX];
    sem_status status = files_join(path, err, "%s/%s", dir, name);
    if (status == SEM_OK)
        status = json_write_path(path, value, err);
    json_decref(value);
    return status;
}

/* --- writing */

/* Adds a tower's modules to the types and to the route. */
static sem_status add_route(json_t *types, json_t *route, const char *dir, const char *tower, sem_error *err)
{
    char folder[FILES_PATH_MAX];
    json_t *modules = NULL;
    sem_status status = files_join(folder, err, "%s/%s", dir, tower);
    if (status == SEM_OK)
        status = load(&modules, folder, "modules.json", err);
    bool ok = true;
    for (size_t i = 0; status == SEM_OK && ok && i < json_array_size(modules); i++) {
        const json_t *module = json_array_get(modules, i);
        const char *type = json_string_value(json_object_get(module, "type"));
        const char *path = json_string_value(json_object_get(module, "path"));
        bool own = path == NULL || path[0] == '\0' || strcmp(path, ".") == 0;
        json_t *id = own ? json_string(tower) : json_sprintf("%s/%s", tower, path);
        ok = id != NULL && type != NULL && json_object_set_new(types, json_string_value(id), json_string(type)) == 0 &&
             json_array_append_new(route, id) == 0;
    }
    json_decref(modules);
    return status != SEM_OK || ok ? status : sem_fail_memory(err, "router_config.json");
}

static sem_status write_router(const char *dir, sem_error *err)
{
    json_t *types = json_object(), *query = json_array(), *document = json_array();
    sem_status status = add_route(types, query, dir, NAMES[TOWER_QUERY], err);
    if (status == SEM_OK)
        status = add_route(types, document, dir, NAMES[TOWER_DOCUMENT], err);
    json_t *config = json_pack("{s:o, s:{s:o, s:o}, s:{s:s, s:b}}", "types", types, "structure", "query", query,
                               "document", document, "parameters", "default_route", "document", "allow_empty_key", 1);
    if (status == SEM_OK)
        return save(dir, "router_config.json", config, err);
    json_decref(config);
    return status;
}

static bool set_prompts(json_t *prompts, const model_config *of)
{
    bool ok = true;
    for (size_t i = 0; ok && i < of->prompt_count; i++)
        ok = json_object_set_new(prompts, of->prompts[i].name, json_string(of->prompts[i].text)) == 0;
    return ok;
}

/* Those of both, and for queries and documents what semd puts before them. */
static sem_status write_prompts(const char *dir, const model_config *query, const model_config *document,
                                sem_error *err)
{
    json_t *prompts = json_object();
    bool ok = set_prompts(prompts, query) && set_prompts(prompts, document) &&
              json_object_set_new(prompts, "query", json_string(model_config_query_prompt(query))) == 0 &&
              json_object_set_new(prompts, "document", json_string(model_config_document_prompt(document))) == 0;
    json_t *config = json_pack("{s:s, s:o, s:n, s:s}", "model_type", "SentenceTransformer", "prompts", prompts,
                               "default_prompt_name", "similarity_fn_name", "cosine");
    if (ok)
        return save(dir, "config_sentence_transformers.json", config, err);
    json_decref(config);
    return sem_fail_memory(err, "config_sentence_transformers.json");
}

static sem_status write_readme(const char *dir, sem_error *err)
{
    static const char text[] =
        "---\nlibrary_name: sentence-transformers\npipeline_tag: sentence-similarity\n"
        "tags:\n- sentence-transformers\n- sentence-similarity\n- feature-extraction\n- semd\n---\n\n"
        "# Two sentence embedding models for one vector space, made by semd\n\n"
        "`query` embeds queries, `document` embeds documents; each is a model directory of its own with a README.\n\n"
        "```python\nfrom sentence_transformers import SentenceTransformer\n\n"
        "model = SentenceTransformer(\"path/to/this/folder\")\n"
        "queries = model.encode_query([\"a question\"], normalize_embeddings=True)\n"
        "documents = model.encode_document([\"a text\", \"another one\"], normalize_embeddings=True)\n```\n";
    char path[FILES_PATH_MAX];
    sem_status status = files_join(path, err, "%s/README.md", dir);
    return status == SEM_OK ? files_write(path, text, sizeof text - 1, err) : status;
}

/* The configuration of a tower, which gets a modules.json where it has none. */
static sem_status read_tower(model_config *out, const char *dir, model_tower which, sem_error *err)
{
    char folder[FILES_PATH_MAX], modules[FILES_PATH_MAX];
    sem_status status = files_join(folder, err, "%s/%s", dir, NAMES[which]);
    if (status == SEM_OK)
        status = files_join(modules, err, "%s/modules.json", folder);
    if (status == SEM_OK)
        status = model_config_read(out, folder, err);
    if (status != SEM_OK || access(modules, F_OK) == 0)
        return status;
    status = model_card_write_configs(folder, out, err);
    if (status != SEM_OK)
        model_config_free(out);
    return status;
}

/* All that dir needs beside its two towers. */
static sem_status finish(const char *dir, sem_error *err)
{
    model_config query, document;
    sem_status status = read_tower(&query, dir, TOWER_QUERY, err);
    if (status != SEM_OK)
        return status;
    status = read_tower(&document, dir, TOWER_DOCUMENT, err);
    if (status != SEM_OK) {
        model_config_free(&query);
        return status;
    }
    if (query.dim != document.dim)
        status = sem_fail(err, SEM_INVALID_ARGUMENT,
                          "%s: queries become vectors of %zu floats, documents of %zu; they must be as wide", dir,
                          query.dim, document.dim);
    if (status == SEM_OK)
        status = write_prompts(dir, &query, &document, err);
    model_config_free(&query);
    model_config_free(&document);
    if (status == SEM_OK)
        status = save(dir, "modules.json",
                      json_pack("[{s:i, s:s, s:s, s:o}]", "idx", 0, "name", "0", "path", "", "type",
                                json_sprintf("%sRouter", MODELS)),
                      err);
    if (status == SEM_OK)
        status = write_readme(dir, err);
    if (status == SEM_OK)
        status = write_router(dir, err); /* the last, as towers_are() goes by it */
    return status == SEM_OK ? files_sync_folder(dir, err) : status;
}

static sem_status move(const char *from, const char *to, sem_error *err)
{
    return rename(from, to) == 0 ? SEM_OK : files_fail(err, "rename", from);
}

/* Puts `both` in the place of dir, which goes by a rename: half a model must never have its name. */
static sem_status take_place(const char *both, const char *dir, sem_error *err)
{
    char alone[FILES_PATH_MAX];
    sem_status status = files_join(alone, err, "%s-alone", dir);
    if (status == SEM_OK)
        status = files_remove_folder(alone, err);
    if (status == SEM_OK)
        status = move(dir, alone, err);
    crash_point("towers.apart");
    if (status == SEM_OK)
        status = move(both, dir, err);
    if (status == SEM_OK)
        status = files_sync_parent(dir, err);
    crash_point("towers.joined");
    return status == SEM_OK ? files_remove_folder(alone, err) : status;
}

sem_status towers_join(const char *dir, const char *documents, sem_error *err)
{
    char both[FILES_PATH_MAX], query[FILES_PATH_MAX], document[FILES_PATH_MAX];
    sem_status status = files_join(both, err, "%s-towers", dir);
    if (status == SEM_OK)
        status = files_join(query, err, "%s/%s", both, NAMES[TOWER_QUERY]);
    if (status == SEM_OK)
        status = files_join(document, err, "%s/%s", both, NAMES[TOWER_DOCUMENT]);
    if (status == SEM_OK)
        status = files_remove_folder(both, err);
    if (status == SEM_OK)
        status = files_make_folder(both, err);
    if (status == SEM_OK)
        status = files_link_folder(dir, query, err);
    if (status == SEM_OK)
        status = files_link_folder(documents, document, err);
    crash_point("towers.linked");
    if (status == SEM_OK)
        status = finish(both, err);
    crash_point("towers.finished");
    return status == SEM_OK ? take_place(both, dir, err) : status;
}

/* --- reading what others wrote */

/* Folders below the directory: never up, never elsewhere. */
static bool is_below(const char *id)
{
    bool up = strcmp(id, "..") == 0 || strncmp(id, "../", 3) == 0 || strstr(id, "/../") != NULL ||
              (strlen(id) >= 3 && strcmp(id + strlen(id) - 3, "/..") == 0);
    return id[0] != '\0' && id[0] != '/' && !up;
}

/* "sentence_transformers.models.Pooling" is a Pooling. */
static const char *plain_type(const char *type)
{
    const char *dot = strrchr(type, '.');
    return dot != NULL ? dot + 1 : type;
}

/* Module i of a route: its folder and its type, borrowed from config. */
static sem_status module_at(const json_t *config, const char *dir, model_tower which, size_t i, const char **id,
                            const char **type, sem_error *err)
{
    const json_t *route = json_object_get(json_object_get(config, "structure"), NAMES[which]);
    *id = json_string_value(json_array_get(route, i));
    *type = *id != NULL ? json_string_value(json_object_get(json_object_get(config, "types"), *id)) : NULL;
    if (*id == NULL || *type == NULL || !is_below(*id))
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "%s/router_config.json: module %zu of structure.%s is no folder below it with a type", dir, i,
                        NAMES[which]);
    return SEM_OK;
}

static sem_status check_route(const json_t *config, const char *dir, model_tower which, sem_error *err)
{
    const json_t *route = json_object_get(json_object_get(config, "structure"), NAMES[which]);
    const char *id, *type;
    char path[FILES_PATH_MAX];
    if (json_array_size(route) == 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "%s/router_config.json: structure has no \"%s\" with modules; a tower for queries and one for "
                        "documents are needed",
                        dir, NAMES[which]);
    for (size_t i = 0; i < json_array_size(route); i++) {
        sem_status status = module_at(config, dir, which, i, &id, &type, err);
        if (status == SEM_OK && i == 0 && strcmp(plain_type(type), "Transformer") != 0)
            status = sem_fail(err, SEM_INVALID_ARGUMENT,
                              "%s/router_config.json: structure.%s begins with a %.64s; a Transformer is supported",
                              dir, NAMES[which], plain_type(type));
        if (status == SEM_OK)
            status = files_join(path, err, "%s/%s", dir, id);
        if (status == SEM_OK && i == 0 && access(path, R_OK) != 0)
            status = sem_fail(err, SEM_NOT_FOUND, "%s: there is no such folder, which router_config.json names", path);
        if (status != SEM_OK)
            return status;
    }
    return SEM_OK;
}

sem_status towers_check(const char *dir, sem_error *err)
{
    json_t *config = NULL;
    sem_status status = load(&config, dir, "router_config.json", err);
    for (int which = TOWER_QUERY; which <= TOWER_DOCUMENT && status == SEM_OK; which++)
        status = check_route(config, dir, (model_tower)which, err);
    json_decref(config);
    return status;
}

/* A module's folder, which those without settings may lack, to a folder of the tower; adds it to
 * the tower's modules. */
static sem_status copy_module(json_t *modules, const char *from, const char *tower, const char *type, sem_error *err)
{
    char to[FILES_PATH_MAX], name[128];
    const size_t place = json_array_size(modules);
    snprintf(name, sizeof name, "%zu_%.64s", place, plain_type(type));
    sem_status status = files_join(to, err, "%s/%s", tower, name);
    if (status == SEM_OK)
        status = access(from, F_OK) == 0 ? files_copy_folder(from, to, err) : files_make_folder(to, err);
    if (status != SEM_OK)
        return status;
    json_t *module = json_pack("{s:I, s:o, s:s, s:o}", "idx", (json_int_t)place, "name", json_sprintf("%zu", place),
                               "path", name, "type", json_sprintf("%s%s", MODELS, plain_type(type)));
    return json_array_append_new(modules, module) == 0 ? SEM_OK : sem_fail_memory(err, "modules.json");
}

/* What follows the Router in modules.json is for both towers. */
static sem_status copy_common(json_t *modules, const char *from, const char *tower, sem_error *err)
{
    json_t *all = NULL;
    sem_status status = load(&all, from, "modules.json", err);
    for (size_t i = 1; status == SEM_OK && i < json_array_size(all); i++) {
        char path[FILES_PATH_MAX];
        const char *type = json_string_value(json_object_get(json_array_get(all, i), "type"));
        const char *folder = json_string_value(json_object_get(json_array_get(all, i), "path"));
        if (type == NULL || folder == NULL || !is_below(folder))
            status = sem_fail(err, SEM_INVALID_ARGUMENT,
                              "%s/modules.json: module %zu is no folder below it with a type", from, i);
        if (status == SEM_OK)
            status = files_join(path, err, "%s/%s", from, folder);
        if (status == SEM_OK)
            status = copy_module(modules, path, tower, type, err);
    }
    json_decref(all);
    return status;
}

/* The modules behind the Transformer, which lies in the tower's folder already, and modules.json. */
static sem_status copy_rest(const json_t *config, const char *from, const char *tower, model_tower which,
                            sem_error *err)
{
    const json_t *route = json_object_get(json_object_get(config, "structure"), NAMES[which]);
    json_t *modules = json_pack("[{s:i, s:s, s:s, s:o}]", "idx", 0, "name", "0", "path", "", "type",
                                json_sprintf("%sTransformer", MODELS));
    sem_status status = modules != NULL ? SEM_OK : sem_fail_memory(err, "modules.json");
    for (size_t i = 1; status == SEM_OK && i < json_array_size(route); i++) {
        char path[FILES_PATH_MAX];
        const char *id, *type;
        status = module_at(config, from, which, i, &id, &type, err);
        if (status == SEM_OK)
            status = files_join(path, err, "%s/%s", from, id);
        if (status == SEM_OK)
            status = copy_module(modules, path, tower, type, err);
    }
    if (status == SEM_OK)
        status = copy_common(modules, from, tower, err);
    if (status == SEM_OK)
        return save(tower, "modules.json", modules, err);
    json_decref(modules);
    return status;
}

/* The prompts stand beside the Router, for all routes. */
static sem_status copy_prompts(const char *from, const char *tower, sem_error *err)
{
    char source[FILES_PATH_MAX];
    json_t *config = NULL;
    sem_status status = files_join(source, err, "%s/config_sentence_transformers.json", from);
    if (status != SEM_OK || access(source, F_OK) != 0)
        return status;
    status = json_load_path(&config, source, CONFIG_FILE_MAX, err);
    return status == SEM_OK ? save(tower, "config_sentence_transformers.json", config, err) : status;
}

static sem_status copy_tower(const json_t *config, const char *from, const char *to, model_tower which,
                             const atomic_bool *cancel, sem_error *err)
{
    char source[FILES_PATH_MAX], target[FILES_PATH_MAX], modules[FILES_PATH_MAX];
    const char *id, *type;
    sem_status status = module_at(config, from, which, 0, &id, &type, err);
    if (status == SEM_OK)
        status = files_join(source, err, "%s/%s", from, id);
    if (status == SEM_OK)
        status = files_join(target, err, "%s/%s", to, NAMES[which]);
    if (status == SEM_OK)
        status = files_copy_folder_unless(source, target, cancel, err);
    if (status == SEM_OK)
        status = files_join(modules, err, "%s/modules.json", target);
    if (status != SEM_OK || access(modules, F_OK) == 0) /* there: a model directory of its own, as ours are */
        return status;
    status = copy_rest(config, from, target, which, err);
    return status == SEM_OK ? copy_prompts(from, target, err) : status;
}

sem_status towers_copy(const char *from, const char *to, const atomic_bool *cancel, sem_error *err)
{
    json_t *config = NULL;
    sem_status status = towers_check(from, err);
    if (status == SEM_OK)
        status = load(&config, from, "router_config.json", err);
    if (status == SEM_OK && mkdir(to, 0700) != 0)
        status = files_fail(err, "create folder", to);
    for (int which = TOWER_QUERY; which <= TOWER_DOCUMENT && status == SEM_OK; which++)
        status = copy_tower(config, from, to, (model_tower)which, cancel, err);
    if (status == SEM_OK)
        status = finish(to, err);
    if (status == SEM_OK)
        status = files_sync_parent(to, err);
    json_decref(config);
    return status;
}
