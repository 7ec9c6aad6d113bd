# bitloom_library(NAME SOURCES folders... LINK targets...): a static library of every .cpp in the folders (not below them).
# A folder without sources makes no library: the name is then an interface target.
function(bitloom_library name)
  cmake_parse_arguments(arg "" "" "SOURCES;LINK" ${ARGN})
  set(sources)
  foreach(folder ${arg_SOURCES})
    file(GLOB found CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/${folder}/*.cpp)
    list(APPEND sources ${found})
  endforeach()
  if(sources)
    add_library(${name} STATIC ${sources})
    target_link_libraries(${name} PUBLIC ${arg_LINK} bitloom_flags)
    set_target_properties(${name} PROPERTIES POSITION_INDEPENDENT_CODE ON)
  else()
    add_library(${name} INTERFACE)
    target_link_libraries(${name} INTERFACE ${arg_LINK} bitloom_flags)
  endif()
endfunction()

# bitloom_programs(FOLDER LINK targets...): one program for each .cpp of the folder. They look for libraries in ../lib first,
# which is there in a bundle (scripts/bundle.sh); as RPATH, not RUNPATH, so that libraries find those they need there too.
function(bitloom_programs folder)
  cmake_parse_arguments(arg "" "" "LINK" ${ARGN})
  file(GLOB found CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/${folder}/*.cpp)
  foreach(source ${found})
    get_filename_component(name ${source} NAME_WE)
    add_executable(${name} ${source})
    target_link_libraries(${name} PRIVATE ${arg_LINK})
    target_link_options(${name} PRIVATE -Wl,--disable-new-dtags)
    set_target_properties(${name} PROPERTIES BUILD_RPATH "$ORIGIN/../lib")
  endforeach()
endfunction()

# bitloom_test(NAME FOLDER LINK targets...): one gtest program of every .cpp in the folder (tests and what they share),
# where it has a *_test.cpp.
function(bitloom_test name folder)
  cmake_parse_arguments(arg "" "" "LINK" ${ARGN})
  file(GLOB found CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/${folder}/*_test.cpp)
  if(found)
    file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/${folder}/*.cpp)
    add_executable(${name} ${sources})
    target_link_libraries(${name} PRIVATE ${arg_LINK} GTest::gtest GTest::gmock GTest::gtest_main)
    target_compile_definitions(${name} PRIVATE BITLOOM_SOURCE_DIR="${CMAKE_SOURCE_DIR}" BITLOOM_BIN_DIR="${CMAKE_BINARY_DIR}/bin")
    set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
    add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY ${CMAKE_BINARY_DIR})
    # As the programs wait; threads that spin while others work make tests of several threads slow.
    set_tests_properties(${name} PROPERTIES ENVIRONMENT OMP_WAIT_POLICY=passive)
  endif()
endfunction()
