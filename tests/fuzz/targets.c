#include "tests/fuzz/targets.h"

#include "model/model_config.h"
#include "model/safetensors.h"
#include "model/tokenizer.h"
#include "proto/frame.h"
#include "proto/request.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { VOCAB = 600, PATH = 4200, MAX_TOKENS = 12 };

static void promise(bool kept, const char *what)
{
    if (kept)
        return;
    fprintf(stderr, "broken: %s\n", what);
    abort();
}

static void put(const char *dir, const char *name, const uint8_t *data, size_t size)
{
    char path[PATH];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "wb");
    promise(file != NULL && fwrite(data, 1, size, file) == size && fclose(file) == 0, "a file can be written");
}

static void drop(const char *dir, const char *name)
{
    char path[PATH];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    unlink(path);
}

/* What stands before the next NUL; *data and *size move behind it. */
static const uint8_t *part(const uint8_t **data, size_t *size, size_t *length)
{
    const uint8_t *start = *data, *end = *size > 0 ? memchr(start, 0, *size) : NULL;
    *length = end != NULL ? (size_t)(end - start) : *size;
    size_t used = *length + (end != NULL);
    *data += used;
    *size -= used;
    return start;
}

/* --- tokenizers */

static void check_text(const tokenizer *t, const char *text, size_t length)
{
    token_batch batch = {.ids = NULL};
    sem_error err;
    bool cut = true;
    if (tokenizer_encode(t, text, length, SIZE_MAX, &batch, &cut, &err) == SEM_OK) {
        promise(!cut && batch.texts == 1 && batch.lengths[0] == batch.tokens, "one text is counted once");
        for (size_t i = 0; i < batch.tokens; i++)
            promise(batch.ids[i] >= 0 && (size_t)batch.ids[i] < VOCAB, "ids are of the vocabulary");
        size_t whole = batch.tokens;
        promise(tokenizer_encode(t, text, length, SIZE_MAX, &batch, &cut, &err) == SEM_OK &&
                    batch.lengths[1] == whole &&
                    (whole == 0 || memcmp(batch.ids, batch.ids + whole, whole * sizeof *batch.ids) == 0),
                "the same text gives the same ids");
        if (tokenizer_encode(t, text, length, MAX_TOKENS, &batch, &cut, &err) == SEM_OK)
            promise(batch.lengths[2] == (whole < MAX_TOKENS ? whole : MAX_TOKENS) && cut == (whole > MAX_TOKENS),
                    "a text is cut where it is too long");
    }
    token_batch_free(&batch);
}

static bool run_tokenizer(const char *dir, const uint8_t *data, size_t size)
{
    size_t length;
    const uint8_t *json = part(&data, &size, &length);
    tokenizer *t = NULL;
    sem_error err;
    put(dir, "tokenizer.json", json, length);
    bool sound = tokenizer_open(&t, dir, VOCAB, &err) == SEM_OK;
    if (sound)
        check_text(t, size > 0 ? (const char *)data : "a b", size > 0 ? size : 3);
    tokenizer_close(t);
    return sound;
}

#define WORDPIECE(more)                                                                                                \
    "{" more "\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"[UNK]\":0,\"a\":1,\"##a\":2,\"b\":3,\"##b\":4,\"ab\":5}}" \
    "}"
#define UNIGRAM(more)                                                                                                  \
    "{" more "\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[[\"<unk>\",0],[\"\\u2581a\",-1],[\"b\",-2],"     \
    "[\"\\u2581\",-3.5],[\"bb\",-3.9],[\"a\",-4],[\"aaaa\",-5]]}}"

static const char *const TOKENIZER_SEEDS[] = {
    WORDPIECE("\"normalizer\":{\"type\":\"BertNormalizer\"},\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},"
              "\"added_tokens\":[{\"id\":9,\"content\":\"[MASK]\",\"lstrip\":true}],"
              "\"post_processor\":{\"type\":\"BertProcessing\",\"cls\":[\"c\",7],\"sep\":[\"s\",8]},") "|aba [MASK]b",
    WORDPIECE("\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFKD\"},{\"type\":\"StripAccents\"},"
              "{\"type\":\"Lowercase\"}]},\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":"
              "\"WhitespaceSplit\"},{\"type\":\"Punctuation\",\"behavior\":\"MergedWithNext\"}]},") "|a,b^C3^A9 \n",
    UNIGRAM("\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"BAAAAAD8//8AAA==\"},"
            "\"pre_tokenizer\":{\"type\":\"Metaspace\"},") "|a  bb^F0^9F^98^80",
    UNIGRAM("\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\" {2,}\"},\"content\":\"x\"},"
            "\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[^\\\\p{L}]+\"},\"behavior\":\"Removed\"}"
            ",") "|a  b1",
    "{\"pre_tokenizer\":{\"type\":\"ByteLevel\"},\"model\":{\"vocab\":{\"a\":0},\"merges\":[\"a a\"]}}|aaaa",
    NULL};

/* Fixed tokenizers of each kind, for any text; byte-level BPE has all bytes as tokens and some merges. */
static size_t write_bpe(char *p, size_t room)
{
    size_t n = 0;
    unsigned spare = 0x100;
    n += (size_t)snprintf(p, room,
                          "{\"normalizer\":{\"type\":\"NFC\"},\"pre_tokenizer\":{\"type\":\"ByteLevel\"},\"model\":{"
                          "\"type\":\"BPE\",\"vocab\":{");
    for (unsigned byte = 0; byte < 256; byte++) {
        bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
        n += (size_t)snprintf(p + n, room - n, "\"\\u%04x\":%u,", printable ? byte : spare++, byte);
    }
    n += (size_t)snprintf(p + n, room - n,
                          "\"aa\":256,\"aaaa\":257,\"ab\":258,\"abab\":259,\"ba\":260},\"merges\":[\"a a\",\"aa aa\","
                          "\"a b\",\"ab ab\",\"b a\"]}}");
    return n;
}

static bool run_text(const char *dir, const uint8_t *data, size_t size)
{
    static const char *const fixed[] = {
        WORDPIECE("\"normalizer\":{\"type\":\"BertNormalizer\"},\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},"
                  "\"added_tokens\":[{\"id\":9,\"content\":\"[MASK]\",\"lstrip\":true},{\"id\":10,\"content\":\"B\","
                  "\"normalized\":true,\"single_word\":true}],"),
        WORDPIECE("\"normalizer\":{\"type\":\"NFKC\"},\"pre_tokenizer\":{\"type\":\"Whitespace\"},"),
        UNIGRAM(
            "\"normalizer\":{\"type\":\"NFD\"},\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":"
            "\"Digits\",\"individual_digits\":true},{\"type\":\"Metaspace\"}]},")};
    static tokenizer *opened[4]; /* kept: opening takes far longer than a text */
    char json[1 << 13];
    for (size_t i = 0; i < 4; i++) {
        sem_error err;
        if (opened[i] == NULL) {
            size_t length = i < 3 ? strlen(fixed[i]) : write_bpe(json, sizeof json);
            put(dir, "tokenizer.json", (const uint8_t *)(i < 3 ? fixed[i] : json), length);
            promise(tokenizer_open(&opened[i], dir, VOCAB, &err) == SEM_OK, "a sound tokenizer is opened");
        }
        check_text(opened[i], size > 0 ? (const char *)data : "", size);
    }
    return true;
}

static const char *const TEXT_SEEDS[] = {"ab ba, [MASK] aaaa it's 123\r\n  B",
                                         "e^CC^81^CC^A3 ^EA^B0^80^E1^86^A8 ^C4^B0",
                                         "^F0^9F^91^A8^E2^80^8D^F0^9F^91^A9 ^E4^B8^AD^E6^96^87",
                                         "^FF^C3^28^ED^A0^80^F8^88 [MAS",
                                         "^E2^96^81a^E2^96",
                                         NULL};

/* --- the other files of a model */

static const char *const CONFIG_FILES[] = {"config.json", "modules.json", "sentence_bert_config.json",
                                           "1_Pooling/config.json", "tokenizer_config.json"};

static bool run_config(const char *dir, const uint8_t *data, size_t size)
{
    char path[PATH];
    snprintf(path, sizeof path, "%s/1_Pooling", dir);
    mkdir(path, 0700);
    for (size_t i = 0; i < sizeof CONFIG_FILES / sizeof *CONFIG_FILES; i++) {
        size_t length;
        const uint8_t *text = part(&data, &size, &length);
        if (length > 0)
            put(dir, CONFIG_FILES[i], text, length);
        else
            drop(dir, CONFIG_FILES[i]);
    }
    model_config config;
    sem_error err;
    if (model_config_read(&config, dir, &err) != SEM_OK)
        return false;
    promise(config.dim > 0 && config.max_tokens >= 3 && config.hidden % config.heads == 0, "a configuration is sound");
    model_config_free(&config);
    return true;
}

static const char *const CONFIG_SEEDS[] = {
    "{\"model_type\":\"bert\",\"vocab_size\":100,\"hidden_size\":8,\"num_hidden_layers\":1,\"num_attention_heads\":2,"
    "\"intermediate_size\":16,\"max_position_embeddings\":32,\"type_vocab_size\":2,\"layer_norm_eps\":1e-12,"
    "\"hidden_act\":\"gelu\"}|[{\"idx\":0,\"name\":\"0\",\"path\":\"\",\"type\":"
    "\"sentence_transformers.models.Transformer\"},{\"idx\":1,\"name\":\"1\",\"path\":\"1_Pooling\",\"type\":"
    "\"sentence_transformers.models.Pooling\"}]|{\"max_seq_length\":16}|{\"word_embedding_dimension\":8,"
    "\"pooling_mode_mean_tokens\":true}",
    "{\"model_type\":\"roberta\",\"vocab_size\":9,\"pad_token_id\":1}|||{\"pooling_mode\":\"cls\"}",
    "{\"model_type\":\"modernbert\",\"vocab_size\":100,\"hidden_size\":8,\"num_hidden_layers\":2,"
    "\"num_attention_heads\":2,\"intermediate_size\":16,\"max_position_embeddings\":32,\"norm_bias\":false,"
    "\"local_attention\":8,\"layer_types\":[\"full_attention\",\"sliding_attention\"],"
    "\"rope_parameters\":{\"full_attention\":{\"rope_type\":\"default\",\"rope_theta\":1000}}}",
    "{\"model_type\":\"nomic_bert\",\"vocab_size\":99,\"n_embd\":24,\"n_layer\":2,\"n_head\":2,\"n_positions\":64,"
    "\"rotary_emb_fraction\":1.0,\"rotary_emb_base\":1000,\"activation_function\":\"swiglu\","
    "\"pad_vocab_size_multiple\":8}",
    NULL};

/* The first part is the index, the second the tensors; an empty index is none. */
static bool run_safetensors(const char *dir, const uint8_t *data, size_t size)
{
    size_t length;
    const uint8_t *index = part(&data, &size, &length);
    safetensors *file = NULL;
    sem_error err;
    put(dir, length > 0 ? "model-1.safetensors" : "model.safetensors", data, size);
    drop(dir, length > 0 ? "model.safetensors" : "model.safetensors.index.json");
    if (length > 0)
        put(dir, "model.safetensors.index.json", index, length);
    if (safetensors_open_folder(&file, dir, &err) != SEM_OK)
        return false;
    unsigned sum = 0;
    for (size_t i = 0; i < safetensors_count(file); i++) {
        const tensor_view *view = safetensors_at(file, i);
        promise(safetensors_find(file, view->name) == view, "a tensor is found by its name");
        const unsigned char *bytes = view->data;
        for (size_t j = 0; j < view->bytes; j++) /* touches all of it */
            sum += bytes[j];
        float some[16];
        size_t count = view->elements < 16 ? view->elements : 16;
        bool floats = view->dtype == TENSOR_F32 || view->dtype == TENSOR_F16 || view->dtype == TENSOR_BF16;
        promise((tensor_read(view, view->elements - count, count, some, &err) == SEM_OK) == floats,
                "floats are read to the end, and nothing else is");
    }
    promise(sum <= UINT32_MAX, "tensors lie inside the file");
    safetensors_close(file);
    return true;
}

static const char *const SAFETENSORS_SEEDS[] = {
    "|<^00^00^00^00^00^00^00{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}      12345678",
    "{\"weight_map\":{\"a\":\"model-1.safetensors\"}}|<^00^00^00^00^00^00^00{\"a\":{\"dtype\":\"F32\",\"shape\":[2],"
    "\"data_offsets\":[0,8]}}      12345678",
    "|^FF^FF^FF^FF^FF^FF^FF^FF{}", NULL};

/* --- requests */

static bool run_request(const char *dir, const uint8_t *data, size_t size)
{
    (void)dir;
    request_limits limits;
    sem_error err;
    frame_scanner scanner;
    size_t length = 0;
    request_limits_defaults(&limits);
    const frame_limits frame = {.bytes = limits.frame_bytes, .depth = limits.depth};
    frame_scanner_init(&scanner, &frame);
    if (frame_scan(&scanner, data, size, &length, &err) != SEM_OK || length == 0)
        return false;
    promise(length <= size, "a frame ends inside the stream");
    unsigned char *copy = malloc(length);
    promise(copy != NULL, "memory is there");
    memcpy(copy, data, length);
    request *r = NULL;
    uint32_t msgid;
    bool notification;
    bool sound = request_parse(&r, &(buffer){.data = copy, .size = length}, &limits, &msgid, &notification, &err) ==
                 SEM_OK;
    request_free(r);
    return sound;
}

static const char *const REQUEST_SEEDS[] = {
    "^94^00^01^A4ping^90", "^94^00^02^A6encode^91^81^A5texts^92^A1a^A2bc",
    "^94^00^03^A6search^91^83^A5query^A1a^A1k^05^A6filter^82^A5field^A1x^A2in^92^01^02",
    "^94^00^04^A6upsert^91^81^A4docs^91^83^A2id^01^A4text^A1a^A4meta^81^A1x^01", NULL};

const fuzz_target FUZZ_TARGET_LIST[FUZZ_TARGETS] = {{"tokenizer", run_tokenizer, TOKENIZER_SEEDS},
                                                    {"text", run_text, TEXT_SEEDS},
                                                    {"config", run_config, CONFIG_SEEDS},
                                                    {"safetensors", run_safetensors, SAFETENSORS_SEEDS},
                                                    {"request", run_request, REQUEST_SEEDS}};

static bool is_hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'F');
}

static int hex(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c - 'A' + 10;
}

size_t fuzz_seed(const char *seed, uint8_t out[FUZZ_SEED_MAX])
{
    size_t n = 0;
    for (; *seed != '\0' && n < FUZZ_SEED_MAX; seed++) {
        if (*seed == '^') {
            /* [^...] of an expression is no byte */
            if (is_hex(seed[1]) && is_hex(seed[2])) {
                out[n++] = (uint8_t)(hex(seed[1]) * 16 + hex(seed[2]));
                seed += 2;
                continue;
            }
        }
        out[n++] = *seed == '|' ? 0 : (uint8_t)*seed;
    }
    return n;
}
