/* A store whose pages are damaged may end the process that has it: then the log says what it was. */
#include "tests/index/store_fixture.h"

#include "base/random.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { PAGE = 4096, DOCUMENTS = 3000, TRIES = 2000, SEED = 5 };

static void make_store(void)
{
    sem_error error;
    store_write *w;
    uint32_t c;
    store *s = store_with_collection(&c);
    ck_ok(store_write_begin(s, &w, &error));
    for (unsigned i = 0; i < DOCUMENTS; i++)
        ck_ok(put_text(w, c, number_id(i), "some words that fill a page with others", 1, NULL, NULL, &error));
    ck_ok(store_write_commit(w, &error));
    store_close(s);
}

static bool look_at(void *context, const store_document *doc)
{
    size_t *bytes = context;
    *bytes += doc->text_length;
    return true;
}

/* In a process of its own: opens it, and reads every document. */
static void read_all(int log_fd)
{
    sem_error error;
    sem_log log;
    store *s;
    store_read *r;
    size_t bytes = 0;
    const struct rlimit none = {0};
    store_options options = {.path = store_folder(), .map_size = MAP};
    (void)setrlimit(RLIMIT_CORE, &none);
    (void)dup2(log_fd, STDERR_FILENO); /* LMDB prints there as well */
    log_init(&log, log_fd, LOG_LEVEL_INFO);
    if (store_open(&s, &options, &log, &error) != SEM_OK || store_read_begin(s, &r, &error) != SEM_OK)
        _exit(1);
    (void)store_document_walk(r, 1, NULL, 0, look_at, &bytes, &error);
    _exit(0);
}

/* Puts a page of main into the place of another; *at: which. */
static void swap_page(random_state *random, int fd, off_t *at, unsigned char sound[PAGE])
{
    struct stat st;
    unsigned char page[PAGE];
    ck_assert_int_eq(fstat(fd, &st), 0);
    const uint64_t pages = (uint64_t)st.st_size / PAGE;
    const off_t from = (off_t)((2 + random_below(random, pages - 2)) * PAGE);
    *at = (off_t)((2 + random_below(random, pages - 2)) * PAGE);
    ck_assert_int_eq(pread(fd, sound, PAGE, *at), PAGE);
    ck_assert_int_eq(pread(fd, page, PAGE, from), PAGE);
    ck_assert_int_eq(pwrite(fd, page, PAGE, *at), PAGE);
}

START_TEST(a_damaged_page_that_ends_the_process_is_told)
{
    sem_error error;
    random_state random;
    char path[FILES_PATH_MAX], *main_file, *log;
    size_t size, log_size;
    bool told = false;
    make_store();
    random_seed(&random, SEED);
    ck_ok(files_join(path, &error, "%s/log", testing_folder()));
    ck_ok(files_read(below_store("main/data.mdb"), MAP, &main_file, &size, &error));
    for (int i = 0; i < TRIES && !told; i++) {
        unsigned char sound[PAGE];
        int status;
        off_t at;
        /* What a start tidies up is not to pile up. */
        ck_ok(files_write(below_store("main/data.mdb"), main_file, size, &error));
        int fd = open(below_store("main/data.mdb"), O_RDWR | O_CLOEXEC);
        int log_fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        ck_assert(fd >= 0 && log_fd >= 0);
        swap_page(&random, fd, &at, sound);
        pid_t child = fork();
        ck_assert_int_ge(child, 0);
        if (child == 0)
            read_all(log_fd);
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        close(log_fd);
        close(fd);
        if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT)
            continue;
        ck_ok(files_read(path, 1 << 20, &log, &log_size, &error));
        ck_assert_msg(strstr(log, "event=store_damaged") != NULL && strstr(log, "restore a backup") != NULL,
                      "the log has: %s", log);
        ck_assert_ptr_nonnull(strstr(log, "/store/main"));
        free(log);
        told = true;
    }
    free(main_file);
    ck_assert_msg(told, "no damage of %d ended the process so", TRIES);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("store_damage");
    TCase *tests = tcase_create("damage");
    tcase_set_timeout(tests, 240);
    tcase_add_test(tests, a_damaged_page_that_ends_the_process_is_told);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
