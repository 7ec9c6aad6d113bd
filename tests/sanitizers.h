#pragma once
// BITLOOM_SANITIZED: 1 where AddressSanitizer or ThreadSanitizer watches the tests (GCC and clang say so differently).

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define BITLOOM_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define BITLOOM_SANITIZED 1
#endif
#endif
#ifndef BITLOOM_SANITIZED
#define BITLOOM_SANITIZED 0
#endif
