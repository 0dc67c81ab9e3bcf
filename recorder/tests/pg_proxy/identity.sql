\set VERBOSITY verbose
\set SHOW_CONTEXT always
create table things (id int primary key, name text not null, amount numeric, payload bytea);
create table children (id int primary key, thing int references things deferrable initially deferred);
insert into things values (1, 'one', 1.50, '\x00ff'), (2, 'two', null, null) returning *;
insert into things values (1, 'again');
select nope from things;
select 1/(id - 1) from things order by id;
selec 1;
begin;
insert into children values (1, 99);
commit;
begin;
set transaction isolation level serializable;
lock table things in share mode;
select count(*) from things;
commit;
begin;
lock table things in share mode;
set transaction isolation level repeatable read;
select count(*) from things;
update things set name = 'uno' where id = 1;
savepoint one;
insert into things values (1, 'dup');
select 1;
rollback to savepoint one;
select name from things order by id;
commit and chain;
show transaction_isolation;
rollback;
begin read only;
insert into things values (3, 'three');
select 1;
commit;
select 1\; select 2\; select nope\; select 3;
begin\; insert into things values (4, 'four')\; commit\; select count(*) from things;
select 1 \;\; select 2;
;
prepare by_id (int) as select name from things where id = $1;
execute by_id (1);
execute by_id (2);
deallocate by_id;
execute by_id (1);
begin;
declare c cursor for select id from things order by id;
fetch 1 from c;
move 1 in c;
fetch all from c;
close c;
commit;
copy things (id, name) from stdin;
10	ten
11	eleven
\.
copy things (id, name) from stdin;
10	dup
\.
copy (select id, name from things order by id) to stdout;
\copy (select id from things order by id) to stdout csv header
\copy things (id, name) from pstdin
listen channel;
notify channel, 'payload';
select pg_notify('channel', 'second');
unlisten *;
do $$ begin raise notice 'told % times', 3; raise warning 'careful'; end $$;
create procedure twice() language plpgsql as $$ begin insert into things values (30, 'a'); commit; insert into things values (31, 'b'); rollback; end $$;
call twice();
select id from things where id >= 30;
create function fails() returns int language plpgsql as $$ begin raise exception 'no' using detail = 'd', hint = 'h', errcode = 'P0042'; end $$;
select fails();
vacuum things;
begin;
vacuum things;
rollback;
create table big as select g as id, repeat('x', 2000) as filler from generate_series(1, 2000) g;
select md5(string_agg(filler, '' order by id)) from big;
select id, length(filler) from big where id > 1990 order by id;
select repeat('y', 400000);
begin;
select lo_create(4242);
select lo_put(4242, 0, '\x0102');
select lo_get(4242);
commit;
set txray.traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
select 'attributed';
reset txray.traceparent;
set application_name = 'other';
show application_name;
set default_transaction_isolation = 'serializable';
select count(*) from things;
begin;
select count(*) from things;
insert into things values (40, 'forty');
commit;
reset default_transaction_isolation;
discard all;
show default_transaction_isolation;
prepare transaction 'nope';
begin;
commit prepared 'nope';
rollback;
set statement_timeout = 100;
select pg_sleep(5);
reset statement_timeout;
explain (costs off) select * from things where id = 1;
table things;
values (1, 'a'), (2, null);
\d things
\gset
select 42 as answer \gset
\echo :answer
\errverbose
