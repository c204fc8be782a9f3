// An NCCL for tests without a GPU: the pointers are those of the host, and the ranks share a file in memory. It reduces
// in truth, refuses what NCCL would refuse or hang on, and fails where the environment tells it to:
//   FAKE_NCCL_FOLDER   where the shared file lies, and `calls`, in which each communicator says how it ended
//   FAKE_NCCL_FAILS    id, init, remote, reduce or async
//   FAKE_NCCL_RANK     the rank that fails; the others then wait for it, as they would in NCCL
#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { SUCCESS = 0, SYSTEM_ERROR = 2, INVALID_ARGUMENT = 4, INVALID_USAGE = 5, REMOTE_ERROR = 6, TIMEOUT = 8 };
enum { FLOAT32 = 7, FLOAT64 = 8, SUM = 0 };
enum { ID_BYTES = 128, MAX_RANKS = 8, SLOT_BYTES = 4096, PATIENCE_SECONDS = 30 };

typedef struct { char internal[ID_BYTES]; } UniqueId;

struct call { size_t count; int datatype, op; };

// The file begins as zeros.
struct shared {
    atomic_uint arrived;
    struct call calls[MAX_RANKS];
    UniqueId ids[MAX_RANKS];
    double slots[MAX_RANKS][SLOT_BYTES / sizeof(double)];
};

struct comm { struct shared *shared; int rank, size; };

static int fails(const char *where, int rank) {
    const char *asked = getenv("FAKE_NCCL_FAILS"), *who = getenv("FAKE_NCCL_RANK");
    return asked && !strcmp(asked, where) && who && atoi(who) == rank;
}

static void path_of(char *path, size_t bytes, const char *name) {
    const char *folder = getenv("FAKE_NCCL_FOLDER");
    snprintf(path, bytes, "%s/%s", folder ? folder : "/tmp", name);
}

// Orphans of a test that was killed do not spin for ever.
static int all_arrive(struct comm *comm) {
    unsigned size = comm->size, target = (atomic_fetch_add(&comm->shared->arrived, 1) / size + 1) * size;
    time_t began = time(NULL);
    while (atomic_load(&comm->shared->arrived) < target) {
        if (time(NULL) - began > PATIENCE_SECONDS) return TIMEOUT;
        sched_yield();
    }
    return SUCCESS;
}

int ncclGetVersion(int *version) {
    *version = 23102;
    return SUCCESS;
}

const char *ncclGetErrorString(int code) {
    switch (code) {
    case SUCCESS: return "no error";
    case SYSTEM_ERROR: return "unhandled system error";
    case INVALID_ARGUMENT: return "invalid argument";
    case INVALID_USAGE: return "invalid usage";
    case REMOTE_ERROR: return "remote process exited or there was a network error";
    default: return "unknown result code";
    }
}

// A name for the shared file, then bytes that follow from it: an id that was cut or shifted on its way is seen.
int ncclGetUniqueId(UniqueId *id) {
    if (fails("id", 0)) return SYSTEM_ERROR;
    memset(id, 0, sizeof *id);
    snprintf(id->internal, 64, "nccl-%d-%ld", (int)getpid(), (long)time(NULL));
    for (int i = 64; i < ID_BYTES; i++) id->internal[i] = id->internal[i % 7] ^ (char)(i * 31);
    return SUCCESS;
}

int ncclCommInitRank(struct comm **out, int size, UniqueId id, int rank) {
    for (int i = 64; i < ID_BYTES; i++)
        if (id.internal[i] != (char)(id.internal[i % 7] ^ (char)(i * 31))) return INVALID_ARGUMENT;
    if (rank < 0 || rank >= size || size > MAX_RANKS) return INVALID_ARGUMENT;
    if (fails("init", rank)) return SYSTEM_ERROR;
    // The culprit fails, and the others hear of it before it could speak.
    const char *asked = getenv("FAKE_NCCL_FAILS");
    if (asked && !strcmp(asked, "remote")) return fails("remote", rank) ? SYSTEM_ERROR : REMOTE_ERROR;

    char path[512];
    path_of(path, sizeof path, id.internal);
    int file = open(path, O_RDWR | O_CREAT, 0600);
    if (file < 0 || ftruncate(file, sizeof(struct shared))) return SYSTEM_ERROR;
    struct comm *comm = malloc(sizeof *comm);
    *comm = (struct comm){mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0), rank, size};
    close(file);
    if (comm->shared == MAP_FAILED) return SYSTEM_ERROR;
    comm->shared->ids[rank] = id;
    int code = all_arrive(comm);
    for (int other = 0; !code && other < size; other++)
        if (memcmp(&comm->shared->ids[other], &id, sizeof id)) code = INVALID_ARGUMENT;
    *out = comm;
    return code;
}

static int reduce(struct comm *comm, const char *send, char *recv, struct call call) {
    struct shared *shared = comm->shared;
    size_t width = call.datatype == FLOAT32 ? sizeof(float) : sizeof(double), each = SLOT_BYTES / width;
    for (size_t done = 0; done < call.count; done += each) {
        size_t now = call.count - done < each ? call.count - done : each;
        memcpy(shared->slots[comm->rank], send + done * width, now * width);
        if (all_arrive(comm)) return TIMEOUT;
        for (size_t i = 0; i < now; i++) {
            double sum = 0;
            float sum32 = 0;
            for (int rank = 0; rank < comm->size; rank++) {
                if (call.datatype == FLOAT32) sum32 += ((float *)shared->slots[rank])[i];
                else sum += shared->slots[rank][i];
            }
            if (call.datatype == FLOAT32) ((float *)recv)[done + i] = sum32;
            else ((double *)recv)[done + i] = sum;
        }
        if (all_arrive(comm)) return TIMEOUT;
    }
    return SUCCESS;
}

int ncclAllReduce(const void *send, void *recv, size_t count, int datatype, int op, struct comm *comm, void *stream) {
    if ((datatype != FLOAT32 && datatype != FLOAT64) || op != SUM || stream != NULL) return INVALID_ARGUMENT;
    if (fails("reduce", comm->rank)) return INVALID_USAGE;
    struct call call = {count, datatype, op};
    comm->shared->calls[comm->rank] = call;
    if (all_arrive(comm)) return TIMEOUT;
    int same = 1;
    for (int rank = 0; rank < comm->size; rank++) {
        struct call other = comm->shared->calls[rank];
        same &= other.count == count && other.datatype == datatype && other.op == op;
    }
    if (all_arrive(comm)) return TIMEOUT;
    return same ? reduce(comm, send, recv, call) : INVALID_ARGUMENT;
}

int ncclCommGetAsyncError(struct comm *comm, int *error) {
    *error = fails("async", comm->rank) ? SYSTEM_ERROR : SUCCESS;
    return SUCCESS;
}

static void leave(struct comm *comm, const char *how) {
    char path[512], line[64];
    path_of(path, sizeof path, "calls");
    int file = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    int length = snprintf(line, sizeof line, "rank %d %s\n", comm->rank, how);
    if (file < 0 || write(file, line, length) != length) perror(path);
    close(file);
    munmap(comm->shared, sizeof(struct shared));
    free(comm);
}

int ncclCommDestroy(struct comm *comm) {
    int code = all_arrive(comm);
    leave(comm, "destroys");
    return code;
}

int ncclCommAbort(struct comm *comm) {
    leave(comm, "aborts");
    return SUCCESS;
}
