/*
 * The files of a pool: their names, whether they are ours, making, opening,
 * mapping and removing them. Everything that changes a name needs the gate.
 */
#ifndef PMC_POOL_FILES_H
#define PMC_POOL_FILES_H

#include "pool.h"

/* How long to wait for a gate that another process keeps closed. */
#define GATE_PATIENCE_NS UINT64_C(10000000000)

/* Open the directory of path, see that others may not write in it, and derive
 * the names of the pool's files. */
enum pmc_status files_open_directory(struct pool *pool, const char *path,
                                     struct pmc_error *error_out);

/* Open the lock file, making it, and close the gate behind us. */
enum pmc_status files_enter_gate(struct pool *pool, struct pmc_error *error_out);

/* Is this description still the file of that name? */
bool files_still_named(int directory_fd, const char *name, int fd);

/* Open and map the files that are there; make and map new ones, under names that
 * nobody looks for (see files_new_name()). */
enum pmc_status files_open(struct pool *pool, struct pool_identity *identity_out,
                           struct pmc_error *error_out);
enum pmc_status files_create(struct pool *pool, const struct pmc_options *options,
                             struct pmc_error *error_out);
/* Of files that were opened: do others use them, whatever the lock file says? */
bool files_are_in_use(const struct pool *pool);
void files_close(struct pool *pool);
/* Remove the heap and the index, finished or not, and an index in shared memory
 * that the lock file remembers. */
void files_remove(struct pool *pool);

/* Allocate bytes of a file, however often signals come. False: errno says why not. */
bool files_allocate(int fd, uint64_t offset_bytes, uint64_t size_bytes);

/* The name that a file has until it is finished, in name_out[256]. */
const char *files_new_name(const char *name, char *name_out);
int files_index_directory(const struct pool *pool);

/* The first option in which an existing pool differs, or NULL. */
const char *files_first_difference(const struct pool_identity *identity,
                                   const struct pmc_options *options);
/* False: it cannot be read at the moment. */
bool files_read_boot_id(uint8_t boot_id_out[16]);

#endif
