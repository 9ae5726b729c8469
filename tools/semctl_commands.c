/* The table of commands: what is parsed, what --help prints, and what the
 * manual page must hold. */
#include "tools/semctl.h"

#define OPTIONS(table) .options = (table), .option_count = sizeof(table) / sizeof *(table)

static const char FILTER_HELP[] = "only documents whose meta matches, e.g. '{\"field\": \"lang\", \"eq\": \"en\"}'";
static const char COLLECTION_HELP[] = "the collection (default: default)";
static const char ID_DETAILS[] = "An ID of digits only is an integer; in double quotes ('\"7\"') it is a string.";

const option_spec GENERAL_OPTIONS[] = {
    {"server", 's', OPTION_LOCAL, "ADDRESS", NULL,
     "tcp://host:port or unix:/path (default: $SEMD_ADDRESS or tcp://127.0.0.1:7700)"},
    {"token-file", 0, OPTION_LOCAL, "FILE", NULL, "holds the token that the server asks for (default: $SEMCTL_TOKEN)"},
    {"json", 'j', OPTION_FLAG, NULL, NULL, "print results as JSON, for programs"},
    {"timeout", 't', OPTION_LOCAL, "SECONDS", NULL, "how long to wait for one answer (default: 600)"},
    {"deadline-ms", 0, OPTION_LOCAL, "MS", NULL, "the server gives up on a request after so many milliseconds"},
    {"help", 'h', OPTION_FLAG, NULL, NULL, "print help and exit"},
    {"version", 'V', OPTION_FLAG, NULL, NULL, "print the version and exit"},
};
const size_t GENERAL_COUNT = sizeof GENERAL_OPTIONS / sizeof *GENERAL_OPTIONS;

static const option_spec ENCODE_OPTIONS[] = {
    {"file", 'f', OPTION_LOCAL, "FILE", NULL, "one text a line; - is standard input"},
    {"prompt", 'p', OPTION_TEXT, "NAME", "prompt", "one of the model's prompts, e.g. query, document"},
    {"no-truncate", 0, OPTION_FALSE, NULL, "truncate", "a text longer than the model takes is an error"},
    {"encoding", 0, OPTION_TEXT, "NAME", "encoding", "bin (default) or array: how the server sends vectors"},
    {"precision", 0, OPTION_TEXT, "NAME", "precision", "float32 (default), int8 or binary"},
};

static const option_spec CREATE_OPTIONS[] = {
    {"passage-tokens", 'p', OPTION_COUNT, "N", "passage_tokens",
     "cut documents at sentence ends into passages of so many tokens at most, each with its vector"},
    {"passage-overlap", 'o', OPTION_COUNT, "N", "passage_overlap",
     "tokens that a passage repeats of the one before, at most (default: 0)"},
    {"no-lexical", 0, OPTION_FALSE, NULL, "lexical", "keep no lexical index: mode lexical is then refused"},
    {"metric", 'm', OPTION_TEXT, "NAME", "metric", "cosine (default) or dot"},
    {"weight-dense", 0, OPTION_NUMBER, "X", "weight_dense",
     "of the ranking by meaning in mode hybrid, 0 to 1000 (default: 1)"},
    {"weight-lexical", 0, OPTION_NUMBER, "X", "weight_lexical", "of the ranking by words in mode hybrid (default: 1)"},
    {"vectors", 0, OPTION_TEXT, "NAME", "vectors", "model (default) or external: documents bring their vectors"},
    {"dim", 'd', OPTION_COUNT, "N", "dim", "width of external vectors"},
};

static const option_spec UPSERT_OPTIONS[] = {
    {"collection", 'c', OPTION_TEXT, "NAME", "collection", COLLECTION_HELP},
    {"file", 'f', OPTION_LOCAL, "FILE", NULL,
     "JSON Lines {\"id\", \"text\", \"meta\"?, \"vector\"?}; - is standard input"},
    {"meta", 'm', OPTION_LOCAL, "JSON", NULL, "meta of the one document"},
    {"generation", 'g', OPTION_COUNT, "N", "generation", "the generation that made the vectors of the file"},
};

static const option_spec LOAD_OPTIONS[] = {
    {"collection", 'c', OPTION_TEXT, "NAME", "collection", COLLECTION_HELP},
};

static const option_spec DELETE_OPTIONS[] = {
    {"collection", 'c', OPTION_TEXT, "NAME", "collection", COLLECTION_HELP},
    {"filter", 'f', OPTION_JSON, "JSON", "filter", FILTER_HELP},
};

static const option_spec GET_OPTIONS[] = {
    {"collection", 'c', OPTION_TEXT, "NAME", "collection", COLLECTION_HELP},
    {"with", 'w', OPTION_WORDS, "PARTS", "with", "of text,meta,vector (default: text,meta)"},
};

static const option_spec COUNT_OPTIONS[] = {
    {"collection", 'c', OPTION_TEXT, "NAME", "collection", COLLECTION_HELP},
    {"filter", 'f', OPTION_JSON, "JSON", "filter", FILTER_HELP},
};

static const option_spec SCROLL_OPTIONS[] = {
    {"collection", 'c', OPTION_TEXT, "NAME", "collection", COLLECTION_HELP},
    {"all", 'a', OPTION_FLAG, NULL, NULL, "every page: an export that upsert --file reads"},
    {"after", 0, OPTION_TEXT, "POSITION", "after", "go on where an earlier scroll ended"},
    {"limit", 'n', OPTION_COUNT, "N", "limit", "documents a page (default: 100)"},
    {"filter", 'f', OPTION_JSON, "JSON", "filter", FILTER_HELP},
    {"with", 'w', OPTION_WORDS, "PARTS", "with", "of text,meta,vector (default: text,meta)"},
};

/* explain takes the first of them, up to --with. */
static const option_spec SEARCH_OPTIONS[] = {
    {"collection", 'c', OPTION_TEXT, "NAME", "collection", COLLECTION_HELP},
    {"k", 'k', OPTION_COUNT, "N", "k", "how many hits (default: 10)"},
    {"like", 'l', OPTION_ID, "ID", "like", "documents near this one, in place of QUERY"},
    {"vector", 0, OPTION_VECTOR, "JSON|@FILE", "vector", "documents near this vector, in place of QUERY"},
    {"generation", 'g', OPTION_COUNT, "N", "generation", "the generation that made the vector"},
    {"filter", 'f', OPTION_JSON, "JSON", "filter", FILTER_HELP},
    {"mode", 'm', OPTION_TEXT, "NAME", "mode", "dense (default): by meaning; lexical: by words; hybrid: by both"},
    {"recall", 'r', OPTION_NUMBER, "SHARE", "recall", "target, above 0 to 1 (default: 0.95)"},
    {"nprobe", 0, OPTION_COUNT, "N", "nprobe", "scan so many lists, in place of a recall"},
    {"exact", 'e', OPTION_TRUE, NULL, "exact", "scan everything"},
    {"with", 'w', OPTION_WORDS, "PARTS", "with", "of text,meta,vector (default: text; with --json none)"},
    {"no-log", 0, OPTION_FALSE, NULL, "log", "leave the search out of the log that semd learns from"},
    {"user", 'u', OPTION_TEXT, "NAME", "user", "who searches; kept only as a keyed hash"},
};
enum { SEARCH_OPTIONS_ONLY = 2 /* at the end */ };

static const option_spec CLICK_OPTIONS[] = {
    {"weight", 'w', OPTION_NUMBER, "X", "weight", "0 to 10 (default: 1)"},
};

static const option_spec FEEDBACK_OPTIONS[] = {
    {"collection", 'c', OPTION_TEXT, "NAME", "collection", COLLECTION_HELP},
    {"text", 0, OPTION_LOCAL, "TEXT", NULL, "the text in question, in place of ID"},
    {"bad", 'b', OPTION_FLAG, NULL, NULL, "it is not relevant (default: it is)"},
    {"file", 'f', OPTION_LOCAL, "FILE", NULL,
     "JSON Lines {\"query\", \"id\" or \"text\", \"label\"?}; - is standard input"},
};

static const option_spec EVENTS_OPTIONS[] = {
    {"all", 'a', OPTION_FLAG, NULL, NULL, "every page"},
    {"after", 0, OPTION_TEXT, "POSITION", "after",
     "go on where an earlier page ended, or behind the event of that seq"},
    {"limit", 'n', OPTION_COUNT, "N", "limit", "events a page (default: 100)"},
    {"kinds", 'k', OPTION_WORDS, "KINDS", "kinds", "of search,click,feedback (default: all)"},
};

static const option_spec ERASE_OPTIONS[] = {
    {"user", 'u', OPTION_TEXT, "NAME", "user", "what this user searched, and clicked there"},
    {"id", 'i', OPTION_ID, "ID", "id", "what names this document, in any collection"},
    {"before", 'b', OPTION_COUNT, "MS", "before", "what is older than this time, in Unix milliseconds"},
};

static const option_spec EVALUATE_OPTIONS[] = {
    {"collection", 'c', OPTION_TEXT, "NAME", "collection", COLLECTION_HELP},
    {"file", 'f', OPTION_LOCAL, "FILE", NULL, "JSON Lines {\"query\", \"relevant\": [ids]}; - is standard input"},
    {"k", 'k', OPTION_COUNT, "N", "k", "hits of each query that are looked at (default: 10)"},
    {"mode", 'm', OPTION_TEXT, "NAME", "mode", "dense (default), lexical or hybrid"},
};

static const option_spec FINETUNE_OPTIONS[] = {
    {"collection", 'c', OPTION_TEXT, "NAME", "collection", "learn from this collection's clicks only"},
    {"mode", 'm', OPTION_TEXT, "NAME", "mode",
     "full, query (the model of queries alone) or auto (the better of both); default: as configured"},
    {"wait", 'w', OPTION_FLAG, NULL, NULL, "show progress until the job has ended"},
};

static const option_spec JOB_OPTIONS[] = {
    {"cancel", 0, OPTION_TRUE, NULL, "cancel", "cancel it"},
    {"follow", 'f', OPTION_FLAG, NULL, NULL, "show progress until the job has ended"},
};

static const option_spec MODEL_LOAD_OPTIONS[] = {
    {"no-gate", 0, OPTION_FALSE, NULL, "gate", "take the model without comparing it with the current one"},
    {"wait", 'w', OPTION_FLAG, NULL, NULL, "show progress until the job has ended"},
};

static const option_spec EXPORT_OPTIONS[] = {
    {"collection", 'c', OPTION_TEXT, "NAME", "collection", COLLECTION_HELP},
};

static const option_spec WATCH_OPTIONS[] = {
    {"topics", 0, OPTION_WORDS, "TOPICS", "topics", "of generation,job (default: both)"},
    {"number", 'n', OPTION_LOCAL, "N", NULL, "end after so many (default: go on until the server ends)"},
};

static const option_spec VERIFY_OPTIONS[] = {
    {"rebuild", 0, OPTION_FLAG, NULL, NULL, "remove caches, which the next start makes anew"},
};

const command COMMANDS[] = {
    {.name = "ping", .method = "ping", .synopsis = "", .summary = "Ask whether the server answers.", .run = run_ping},
    {.name = "auth",
     .method = "auth",
     .synopsis = "",
     .summary = "Show the role that the token has.",
     .details = "The token comes from --token-file or $SEMCTL_TOKEN; every command gives it to the server.",
     .run = run_auth},
    {.name = "info",
     .method = "info",
     .synopsis = "",
     .summary = "Show version, model, generation and limits.",
     .run = run_info},
    {.name = "encode",
     .method = "encode",
     .synopsis = "[TEXT]...",
     .summary = "Turn texts into embeddings.",
     .details = "--json prints them whole.",
     OPTIONS(ENCODE_OPTIONS),
     .most = WORDS_MANY,
     .run = run_encode},
    {.name = "collection create",
     .method = "collection.create",
     .synopsis = "NAME",
     .summary = "Create a collection.",
     OPTIONS(CREATE_OPTIONS),
     .least = 1,
     .most = 1,
     .run = run_collection_create},
    {.name = "collection drop",
     .method = "collection.drop",
     .synopsis = "NAME",
     .summary = "Remove a collection with all that it holds.",
     .least = 1,
     .most = 1,
     .run = run_collection_drop},
    {.name = "collection list",
     .method = "collection.list",
     .synopsis = "",
     .summary = "List the collections.",
     .run = run_collection_list},
    {.name = "upsert",
     .method = "upsert",
     .synopsis = "[ID TEXT]",
     .summary = "Store one document, or a file of them.",
     .details = ID_DETAILS,
     OPTIONS(UPSERT_OPTIONS),
     .most = 2,
     .run = run_upsert},
    {.name = "load",
     .synopsis = "PATH...",
     .summary = "Store text files, and all files of folders.",
     .details = "Each text file is a document; its id is the path below the folder named, or the\n"
                "path as named. A file ending in .jsonl is read line by line, as upsert --file does.\n"
                "Names that begin with a dot are left out.",
     OPTIONS(LOAD_OPTIONS),
     .least = 1,
     .most = WORDS_MANY,
     .run = run_load},
    {.name = "delete",
     .method = "delete",
     .synopsis = "[ID]...",
     .summary = "Delete documents by id or by filter.",
     .details = ID_DETAILS,
     OPTIONS(DELETE_OPTIONS),
     .most = WORDS_MANY,
     .run = run_delete},
    {.name = "get",
     .method = "get",
     .synopsis = "ID...",
     .summary = "Print documents as JSON Lines.",
     .details = ID_DETAILS,
     OPTIONS(GET_OPTIONS),
     .least = 1,
     .most = WORDS_MANY,
     .run = run_get},
    {.name = "count",
     .method = "count",
     .synopsis = "",
     .summary = "Count documents.",
     OPTIONS(COUNT_OPTIONS),
     .run = run_count},
    {.name = "scroll",
     .method = "scroll",
     .synopsis = "",
     .summary = "Print documents in id order as JSON Lines.",
     OPTIONS(SCROLL_OPTIONS),
     .run = run_scroll},
    {.name = "search",
     .method = "search",
     .synopsis = "[QUERY]",
     .summary = "Find the nearest documents.",
     .details = ID_DETAILS,
     OPTIONS(SEARCH_OPTIONS),
     .most = 1,
     .run = run_search},
    {.name = "explain",
     .method = "explain",
     .synopsis = "[QUERY]",
     .summary = "Search, and tell how: tokens, plan, what was scanned, time of each step.",
     .details = ID_DETAILS,
     .options = SEARCH_OPTIONS,
     .option_count = sizeof SEARCH_OPTIONS / sizeof *SEARCH_OPTIONS - SEARCH_OPTIONS_ONLY,
     .most = 1,
     .run = run_explain},
    {.name = "click",
     .method = "click",
     .synopsis = "QUERY_ID ID",
     .summary = "Tell that a hit of a search was the right one.",
     .details = ID_DETAILS,
     OPTIONS(CLICK_OPTIONS),
     .least = 2,
     .most = 2,
     .run = run_click},
    {.name = "feedback",
     .method = "feedback",
     .synopsis = "[QUERY [ID]]",
     .summary = "Tell which documents are right or wrong for a query.",
     .details = ID_DETAILS,
     OPTIONS(FEEDBACK_OPTIONS),
     .most = 2,
     .run = run_feedback},
    {.name = "events erase",
     .method = "events.erase",
     .synopsis = "",
     .summary = "Erase searches, clicks and feedback by user, document or age.",
     .details = "Give one of the three. The log's file is written anew, so that nothing of them is left\n"
                "in it; models and backups that were made before keep what they have. Without\n"
                "--timeout its end is waited for.",
     OPTIONS(ERASE_OPTIONS),
     .run = run_events_erase},
    {.name = "events",
     .method = "events",
     .synopsis = "",
     .summary = "Print the log of searches, clicks and feedback as JSON Lines, the oldest first.",
     .details = "Queries are in it as they came; who may read it reads what people looked for.\n"
                "A search that was just answered is there half a second later at the latest.",
     OPTIONS(EVENTS_OPTIONS),
     .run = run_events},
    {.name = "evaluate",
     .method = "evaluate",
     .synopsis = "--file FILE",
     .summary = "Measure how well searches rank the documents that they should find.",
     .details = "An id that no document has counts as one that is never found; a query without\n"
                "ids does not count.",
     OPTIONS(EVALUATE_OPTIONS),
     .run = run_evaluate},
    {.name = "finetune",
     .method = "finetune",
     .synopsis = "",
     .summary = "Start a job that learns from the clicks.",
     OPTIONS(FINETUNE_OPTIONS),
     .run = run_finetune},
    {.name = "job",
     .method = "job",
     .synopsis = "[JOB]",
     .summary = "Show a job (default: the latest).",
     OPTIONS(JOB_OPTIONS),
     .most = 1,
     .run = run_job},
    {.name = "generations",
     .method = "generations",
     .synopsis = "",
     .summary = "List the generations of the model.",
     .run = run_generations},
    {.name = "rollback",
     .method = "rollback",
     .synopsis = "[GENERATION]",
     .summary = "Return to an earlier generation (default: the previous).",
     .details = "A trial that is under way ends, and its candidate is discarded; any other job must\n"
                "have ended, or be cancelled, before.",
     .most = 1,
     .run = run_rollback},
    {.name = "model load",
     .method = "model.load",
     .synopsis = "PATH",
     .summary = "Bring a model directory of the server in as a candidate.",
     OPTIONS(MODEL_LOAD_OPTIONS),
     .least = 1,
     .most = 1,
     .run = run_model_load},
    {.name = "backup",
     .method = "backup",
     .synopsis = "NAME",
     .summary = "Have the server write a consistent copy of everything, while it serves.",
     .details = "It becomes the folder NAME below the server's storage.backup_dir. Without --timeout\n"
                "its end is waited for.",
     .least = 1,
     .most = 1,
     .run = run_backup},
    {.name = "index export",
     .method = "index.export",
     .synopsis = "FILE",
     .summary = "Have the server write a collection's vectors as a FAISS file.",
     .details = "FILE lies below the server's storage.export_dir. FILE.ids.jsonl beside it names the\n"
                "document of each FAISS id. Without --timeout its end is waited for.",
     OPTIONS(EXPORT_OPTIONS),
     .least = 1,
     .most = 1,
     .run = run_index_export},
    {.name = "watch",
     .method = "watch",
     .synopsis = "",
     .summary = "Tell of jobs and new generations as they come.",
     .details = "A job is told of when it begins, at each phase, and at its end; a generation when it\n"
                "becomes current. With --timeout it is an error when nothing comes for so long.",
     OPTIONS(WATCH_OPTIONS),
     .run = run_watch},
    {.name = "restore",
     .synopsis = "BACKUP DATA",
     .summary = "Make a data folder from a backup, without a server.",
     .details = "BACKUP is the backup's folder, DATA a storage.path that does not exist yet or is empty.\n"
                "Every file is checked before anything is written.",
     .least = 2,
     .most = 2,
     .run = run_restore},
    {.name = "verify",
     .synopsis = "DATA",
     .summary = "Check a data folder that no server has open.",
     .details = "DATA is a storage.path. Prints each violation of what docs/format.md says, and ends\n"
                "with status 1 when there is any. Nothing is written but what --rebuild removes; a\n"
                "folder that is read-only will do.",
     OPTIONS(VERIFY_OPTIONS),
     .least = 1,
     .most = 1,
     .run = run_verify},
};
const size_t COMMAND_COUNT = sizeof COMMANDS / sizeof *COMMANDS;
