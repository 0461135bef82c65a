/* Who asks for a command, and the pieces of its image that come from that. Loop thread. */
#pragma once

#include "ctl/run.h"
#include "ctl/server.h"
#include "image/exec.h"
#include "node/node.h"

/* Fills the credentials of im from the process at the other end. -ESRCH when it is gone, -EXDEV when it lives in namespaces or under a
 * root directory that are not this node's. im is partly filled on failure; exec_image_fini frees it. */
int peer_image(const struct ctl_peer *peer, struct exec_image *im, struct err *e);

/* Fills everything else of im from the request: program (looked up in PATH as execvp does), strings, limits, signals, directory,
 * descriptor numbers. -ENOENT, -EACCES: the program was not found, or may not be executed. */
int peer_request(const struct run_request *r, struct exec_image *im, struct err *e);
