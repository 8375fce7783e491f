// Submitted tasks that wait for an idle thread.
#pragma once

#include <stddef.h>

#include <atomic>
#include <deque>
#include <future>
#include <mutex>
#include <optional>
#include <utility>

namespace weft {

using Task = std::packaged_task<void()>;

// First in, first out, of bounded length. Any thread.
class TaskQueue {
 public:
  static constexpr size_t kMaxTasks = 1024;

  bool is_empty() const { return num_tasks_.load(std::memory_order_seq_cst) == 0; }

  enum class Pushed { kYes, kFull, kShut };

  // Leaves `task` unchanged when it is not pushed.
  Pushed push(Task& task) {
    std::lock_guard<std::mutex> guard(mutex_);
    if (is_shut_) return Pushed::kShut;
    if (tasks_.size() >= kMaxTasks) return Pushed::kFull;
    tasks_.push_back(std::move(task));
    num_tasks_.store(tasks_.size(), std::memory_order_seq_cst);
    return Pushed::kYes;
  }

  std::optional<Task> pop() {
    std::lock_guard<std::mutex> guard(mutex_);
    if (tasks_.empty()) return std::nullopt;
    std::optional<Task> task(std::move(tasks_.front()));
    tasks_.pop_front();
    num_tasks_.store(tasks_.size(), std::memory_order_seq_cst);
    return task;
  }

  // From now on nothing is pushed; what is in the queue can still be popped.
  void shut() {
    std::lock_guard<std::mutex> guard(mutex_);
    is_shut_ = true;
  }

 private:
  std::mutex mutex_;
  std::deque<Task> tasks_;
  bool is_shut_ = false;
  std::atomic<size_t> num_tasks_{0};
};

}  // namespace weft
