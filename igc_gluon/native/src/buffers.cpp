// buffers.cpp - lets storages that are not in use together share memory.
#include <algorithm>

#include "net.h"

namespace igc {
namespace {

// Halo and padding are zero for ever and never written, so buffers serve only storages in which both
// coincide; a wider halo than a storage needs does no harm.
bool serves(const Buffer& buffer, const Buffer& wanted) {
  return buffer.height == wanted.height && buffer.width == wanted.width && buffer.pixel == wanted.pixel &&
         buffer.padding == wanted.padding && buffer.fill == wanted.fill;
}

bool overlap(const Storage& a, const Storage& b) {
  return a.first_step <= b.last_step && b.first_step <= a.last_step;
}

}  // namespace

void assign_buffers(Plan& plan) {
  std::vector<std::vector<const Storage*>> users;
  for (Storage& storage : plan.storages) {
    if (storage.last_step < 0) continue;  // the step that wrote it has become part of another
    Buffer wanted = {storage.height, storage.width, storage.halo_h, storage.halo_w, storage.pixel(), {},
                     storage.zero};
    // Bytes are always finite: what padding holds meets weights of zero, and may be anything.
    for (int c : storage.layout.channel_at)
      if (storage.element != Element::Byte) wanted.padding.push_back(c < 0);
    size_t b = 0;
    while (b < plan.buffers.size() &&
           (!serves(plan.buffers[b], wanted) ||
            std::any_of(users[b].begin(), users[b].end(),
                        [&](const Storage* user) { return overlap(*user, storage); })))
      b++;
    if (b == plan.buffers.size()) {
      plan.buffers.push_back(wanted);
      users.emplace_back();
    }
    plan.buffers[b].halo_h = std::max(plan.buffers[b].halo_h, wanted.halo_h);
    plan.buffers[b].halo_w = std::max(plan.buffers[b].halo_w, wanted.halo_w);
    users[b].push_back(&storage);
    storage.buffer = (int)b;
  }
}

}  // namespace igc
