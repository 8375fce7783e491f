// What memory is left, by files as the system writes them.
#include <stdlib.h>
#include <sys/stat.h>

#include <cstdint>
#include <fstream>
#include <string>

#include "memory/available.h"
#include "tests/native/check.h"

namespace {

using weft::available_bytes;

constexpr int64_t kMegabyte = int64_t{1} << 20;

// A folder with the files of a machine.
class Machine {
 public:
  Machine() {
    char path[] = "/tmp/weft-machine-XXXXXX";
    root = mkdtemp(path);
    for (const char* folder : {"/proc", "/sys", "/sys/fs", "/sys/fs/cgroup"}) mkdir((root + folder).c_str(), 0700);
  }
  ~Machine() {
    for (const char* name : {"/proc/meminfo", "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current",
                             "/sys/fs/cgroup/memory.stat"})
      remove((root + name).c_str());
    for (const char* folder : {"/sys/fs/cgroup", "/sys/fs", "/sys", "/proc", ""}) remove((root + folder).c_str());
  }
  void write(const char* name, const std::string& text) { std::ofstream(root + name) << text; }

  std::string root;
};

void the_machine_alone() {
  Machine machine;
  CHECK_EQUAL(available_bytes(machine.root), INT64_MAX);
  machine.write("/proc/meminfo", "MemTotal:  9000 kB\nMemFree:   100 kB\nMemAvailable:    2048 kB\n");
  CHECK_EQUAL(available_bytes(machine.root), 2 * kMegabyte);
  machine.write("/sys/fs/cgroup/memory.max", "max\n");
  CHECK_EQUAL(available_bytes(machine.root), 2 * kMegabyte);
}

void cached_files_of_a_group_are_left() {
  Machine machine;
  machine.write("/sys/fs/cgroup/memory.max", std::to_string(100 * kMegabyte) + "\n");
  machine.write("/sys/fs/cgroup/memory.current", std::to_string(99 * kMegabyte) + "\n");
  CHECK_EQUAL(available_bytes(machine.root), kMegabyte);
  machine.write("/sys/fs/cgroup/memory.stat", "anon 1\nfile 83886080\ninactive_anon 5\nactive_anon 6\ninactive_file " +
                                                  std::to_string(60 * kMegabyte) + "\nactive_file " +
                                                  std::to_string(20 * kMegabyte) + "\nunevictable 0\n");
  CHECK_EQUAL(available_bytes(machine.root), 81 * kMegabyte);
}

}  // namespace

int main(int argc, char** argv) {
  return weft::test::run(argc, argv, {{"the_machine_alone", the_machine_alone},
                                      {"cached_files_of_a_group_are_left", cached_files_of_a_group_are_left}});
}
