-- The guards of the records fire whatever session_replication_role says, and look for what backs a promotion in the
-- tables themselves: a temporary table of the same name would be found first.

DO $$
DECLARE guard record;
BEGIN
    FOR guard IN
        SELECT t.tgrelid::regclass AS record, t.tgname AS name
        FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
        WHERE p.proname IN ('refuse_change', 'require_backing') AND p.pronamespace = 'public'::regnamespace
    LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', guard.record, guard.name);
    END LOOP;
END $$;

ALTER FUNCTION refuse_change() SET search_path = pg_catalog, public, pg_temp;
ALTER FUNCTION require_backing() SET search_path = pg_catalog, public, pg_temp;
