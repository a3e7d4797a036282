# Tests, the kill storm and the benchmarks of the engine: one program per file, no Python needed.
#
# tests/test_*.c     run by ctest in every build
# tests/storm/*.c    run by ctest where faults are compiled in (label "storm")
# bench/*.c          built, run by hand
file(GLOB test_sources CONFIGURE_DEPENDS tests/test_*.c)
file(GLOB storm_sources CONFIGURE_DEPENDS tests/storm/*.c)
file(GLOB bench_sources CONFIGURE_DEPENDS bench/*.c)

set(sanitizer_options
    "ASAN_OPTIONS=detect_stack_use_after_return=1"
    "UBSAN_OPTIONS=print_stacktrace=1"
    "TSAN_OPTIONS=suppressions=${CMAKE_CURRENT_SOURCE_DIR}/tests/tsan.supp:history_size=7")

# ThreadSanitizer of older compilers cannot live with today's address space randomisation, which some
# containers in turn do not let a process switch off.
set(launcher)
if(PMC_SANITIZE STREQUAL "thread")
  set(fixed_addresses setarch ${CMAKE_HOST_SYSTEM_PROCESSOR} --addr-no-randomize)
  execute_process(COMMAND ${fixed_addresses} true RESULT_VARIABLE refused ERROR_QUIET)
  if(refused EQUAL 0)
    set(launcher ${fixed_addresses})
  endif()
endif()

function(pmc_add_program source)
  get_filename_component(name "${source}" NAME_WE)
  add_executable(${name} "${source}")
  target_include_directories(${name} PRIVATE src tests)
  target_link_libraries(${name} PRIVATE pmemcache pmemcache_warnings m)
endfunction()

function(pmc_add_test source label timeout_seconds)
  pmc_add_program("${source}")
  get_filename_component(name "${source}" NAME_WE)
  add_test(NAME ${name} COMMAND ${launcher} $<TARGET_FILE:${name}>)
  set_tests_properties(
    ${name}
    PROPERTIES LABELS ${label}
               TIMEOUT ${timeout_seconds}
               ENVIRONMENT "${sanitizer_options}")
endfunction()

foreach(source IN LISTS test_sources)
  pmc_add_test("${source}" unit 900)
endforeach()

# The same under valgrind, where that is: it sees what no sanitizer does, bytes that were never
# written. Not those that take minutes there, or measure time; children end without freeing, so leaks are for
# AddressSanitizer to find.
set(too_long_for_memcheck test_damage test_memory test_model test_room test_threads)
find_program(valgrind valgrind)
if(valgrind AND NOT PMC_SANITIZE AND NOT PMC_FAULTS)
  foreach(source IN LISTS test_sources)
    get_filename_component(name "${source}" NAME_WE)
    if(name IN_LIST too_long_for_memcheck)
      continue()
    endif()
    add_test(NAME memcheck_${name} COMMAND ${valgrind} --quiet --error-exitcode=9 --leak-check=no
                                           $<TARGET_FILE:${name}>)
    set_tests_properties(memcheck_${name} PROPERTIES LABELS memcheck TIMEOUT 900)
  endforeach()
endif()
if(PMC_FAULTS)
  foreach(source IN LISTS storm_sources)
    pmc_add_test("${source}" storm 900)
  endforeach()
  # Where the names of all steps are.
  target_compile_definitions(steps PRIVATE PMC_ENGINE_SOURCES="${CMAKE_CURRENT_SOURCE_DIR}/src")
endif()
foreach(source IN LISTS bench_sources)
  pmc_add_program("${source}")
endforeach()
