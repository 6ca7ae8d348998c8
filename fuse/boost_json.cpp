// Boost.JSON itself, compiled here so that no shared library is needed.
#include <boost/json/src.hpp>
