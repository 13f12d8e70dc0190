/* Stands before the C library's calls, so that a file system or a kernel answers as others do. What a call answers is said by variables:
   SHIM_SYNC_FOLDER, SHIM_SYNC_FILE, SHIM_LOCK, SHIM_CHMOD, SHIM_OPEN_FOLDER: an errno, and
   SHIM_SOCKET_V6, SHIM_BIND_V6; SHIM_MODE: every new file has this mode; SHIM_ONLY_V6: sockets of IPv6 begin without IPv4;
   SHIM_ADDRESSES: those of the host sink.example, separated by commas. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

static int refusal(const char *name) {
    const char *text = getenv(name);
    return text ? atoi(text) : 0;
}

static int refused(const char *name) {
    int error = refusal(name);
    if (error) errno = error;
    return error;
}

static int is_folder(int file) {
    struct stat found;
    return fstat(file, &found) == 0 && S_ISDIR(found.st_mode);
}

int fsync(int file) {
    if (refused(is_folder(file) ? "SHIM_SYNC_FOLDER" : "SHIM_SYNC_FILE")) return -1;
    return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(file);
}

int flock(int file, int operation) {
    if (refused("SHIM_LOCK")) return -1;
    return ((int (*)(int, int))dlsym(RTLD_NEXT, "flock"))(file, operation);
}

int fchmod(int file, mode_t mode) {
    if (refused("SHIM_CHMOD")) return -1;
    return ((int (*)(int, mode_t))dlsym(RTLD_NEXT, "fchmod"))(file, mode);
}

int open64(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    struct stat found;
    int is_new = flags & O_CREAT && stat(path, &found) != 0;
    if (getenv("SHIM_OPEN_FOLDER") && stat(path, &found) == 0 && S_ISDIR(found.st_mode) && refused("SHIM_OPEN_FOLDER")) return -1;
    int file = ((int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open64"))(path, flags, mode);
    if (file >= 0 && is_new && getenv("SHIM_MODE"))
        ((int (*)(int, mode_t))dlsym(RTLD_NEXT, "fchmod"))(file, strtol(getenv("SHIM_MODE"), NULL, 8));
    return file;
}

int socket(int domain, int type, int protocol) {
    if (domain == AF_INET6 && refused("SHIM_SOCKET_V6")) return -1;
    int file = ((int (*)(int, int, int))dlsym(RTLD_NEXT, "socket"))(domain, type, protocol);
    int on = 1;
    if (file >= 0 && domain == AF_INET6 && getenv("SHIM_ONLY_V6"))
        setsockopt(file, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    return file;
}

int bind(int file, const struct sockaddr *address, socklen_t length) {
    if (address->sa_family == AF_INET6 && refused("SHIM_BIND_V6")) return -1;
    return ((int (*)(int, const struct sockaddr *, socklen_t))dlsym(RTLD_NEXT, "bind"))(file, address, length);
}

typedef int (*resolver)(const char *, const char *, const struct addrinfo *, struct addrinfo **);

int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    resolver resolve = (resolver)dlsym(RTLD_NEXT, "getaddrinfo");
    const char *addresses = getenv("SHIM_ADDRESSES");
    if (!host || !addresses || strcmp(host, "sink.example")) return resolve(host, service, hints, found);
    char *copy = strdup(addresses), *rest = copy, *address;
    int failed = 0;
    *found = NULL;
    /* Each is a list of its own, and the C library frees them one by one. */
    while (!failed && (address = strsep(&rest, ","))) {
        failed = resolve(address, service, hints, found);
        while (!failed && *found) found = &(*found)->ai_next;
    }
    free(copy);
    return failed;
}
