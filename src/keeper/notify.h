/* What the service manager is told (sd_notify(3)), without its library. Main thread. */
#pragma once

/* Takes $NOTIFY_SOCKET and unsets it, so that no child uses it. */
void notify_init(void);

/* Sends lines such as "READY=1\nSTATUS=words". Nothing happens when nobody asked; never waits. */
void notify_send(const char *lines);
