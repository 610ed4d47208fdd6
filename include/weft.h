/* weft.h - the whole of weft: coroutines on work-stealing threads, for C. */
#ifndef WEFT_H
#define WEFT_H

#include <weft/base.h>
#include <weft/call.h>
#include <weft/chan.h>
#include <weft/delay.h>
#include <weft/dns.h>
#include <weft/error.h>
#include <weft/fs.h>
#include <weft/gen.h>
#include <weft/io.h>
#include <weft/local.h>
#include <weft/net.h>
#include <weft/offload.h>
#include <weft/process.h>
#include <weft/report.h>
#include <weft/runtime.h>
#include <weft/scope.h>
#include <weft/select.h>
#include <weft/signal.h>
#include <weft/stream.h>
#include <weft/sync.h>
#include <weft/task.h>
#include <weft/time.h>

#endif
