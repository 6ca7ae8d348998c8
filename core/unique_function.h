// A move-only callable, until std::move_only_function is here.
#pragma once

#include <memory>
#include <utility>

namespace core {

class UniqueFunction {
 public:
  UniqueFunction() = default;
  template <class Callable>
  requires(!std::is_same_v<std::decay_t<Callable>, UniqueFunction>)
      UniqueFunction(Callable&& callable)  // NOLINT(google-explicit-constructor): reads as the callable it wraps
      : target_(std::make_unique<Model<std::decay_t<Callable>>>(std::forward<Callable>(callable))) {}

  explicit operator bool() const { return target_ != nullptr; }
  void operator()() { target_->call(); }

 private:
  struct Concept {
    virtual ~Concept() = default;
    virtual void call() = 0;
  };
  template <class Callable>
  struct Model final : Concept {
    template <class Source>
    explicit Model(Source&& source) : callable(std::forward<Source>(source)) {}
    void call() override { callable(); }
    Callable callable;
  };
  std::unique_ptr<Concept> target_;
};

}  // namespace core
